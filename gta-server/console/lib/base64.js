// Base64 of texts and files.

/** Bytes in standard base64. */
export function encode(bytes) {
  let binary = '';
  for (const byte of bytes) {
    binary += String.fromCharCode(byte);
  }
  return btoa(binary);
}

/** A text in standard base64. */
export function encodeText(text) {
  return encode(new TextEncoder().encode(text));
}

/** A text out of base64, of either alphabet. */
export function decodeText(base64) {
  const binary = atob(base64.replaceAll('-', '+').replaceAll('_', '/'));
  return new TextDecoder().decode(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
}
