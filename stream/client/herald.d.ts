// The types of the module: what each part means.
export {};
