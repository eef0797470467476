/** SHA-256 for pages that the browser gives none: those of neither https nor localhost. */
export { sha256 } from "@noble/hashes/sha2.js";
