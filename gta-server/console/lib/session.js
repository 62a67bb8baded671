// Who is signed in. The key is in the memory of this page and nowhere else: it is gone when the page is left or loaded again.

let session = null;
let ended = () => {};

/** Who is signed in: `{tenant, role, actor}`; null if nobody is. */
export function who() {
  return session && { tenant: session.tenant, role: session.role, actor: session.actor };
}

/** The headers that say so. */
export function headers() {
  return session ? { 'User-Id': session.tenant, 'API-Key': session.key } : {};
}

/** Signs in, with what the server has said of the key. */
export function begin(tenant, key, { role, actor }) {
  session = { tenant, key, role, actor };
}

/** Forgets the key. */
export function end(reason = '') {
  if (session) {
    session = null;
    ended(reason);
  }
}

/** What is to be done when the key is forgotten. */
export function onEnd(listener) {
  ended = listener;
}

/** Whether the key may change what the tenant has. The server decides; this only saves a form that it would refuse. */
export function mayChange() {
  return session?.role === 'admin';
}
