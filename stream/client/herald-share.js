// One connection for all tabs of a site; herald.js imports this file.
export {};
