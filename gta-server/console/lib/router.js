// Which page the address names. Addresses are fragments, so that the server never sees a node's name in its log.

/** `{path, query}` of the address: the parts between slashes, decoded, and what is after the question mark. */
export function address() {
  const [path, query = ''] = location.hash.replace(/^#\/?/u, '').split('?', 2);
  return {
    path: path.split('/').filter((part) => part !== '').map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** The address of a page. Members of the query that are empty are left out. */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const search = given.length > 0 ? `?${new URLSearchParams(given)}` : '';
  return `#/${path.map(encodeURIComponent).join('/')}${search}`;
}

/** Goes to a page. */
export function go(path, query) {
  location.hash = link(path, query);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
