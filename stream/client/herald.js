// The module of pages and back ends that read streams of Herald. Its types and their meaning are in herald.d.ts.
export {};
