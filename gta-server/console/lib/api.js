// The REST interface.

import { end, headers } from './session.js';

const BASE = '/global-trust-authority/service/v1';

/** An answer that is no success: a problem document (RFC 7807), or that there was no answer. */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** `GET path?query` as JSON. Members of the query that are empty are left out. */
export function get(path, query, signal) {
  return call('GET', path, { query, signal });
}

/** Another method with a body in JSON. */
export function send(method, path, body) {
  return call(method, path, { body });
}

/** What a key is, before somebody is signed in with it. */
export function identify(tenant, key) {
  return call('GET', '/whoami', { as: { 'User-Id': tenant, 'API-Key': key } });
}

/** An answer that is read as it comes. */
export async function open(path, query, extra, signal) {
  const response = await request('GET', path, { query, signal, as: { ...headers(), ...extra } });
  if (!response.ok) {
    throw await problem(response);
  }
  return response;
}

async function call(method, path, options) {
  const response = await request(method, path, options);
  if (!response.ok) {
    throw await problem(response);
  }
  const text = await response.text();
  return text === '' ? null : JSON.parse(text);
}

async function request(method, path, { query = {}, body, signal, as = headers() }) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const search = given.length > 0 ? `?${new URLSearchParams(given)}` : '';
  const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
  try {
    return await fetch(`${BASE}${path}${search}`, {
      method,
      signal,
      headers: { ...as, ...type },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      mode: 'same-origin',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    });
  } catch (error) {
    if (error.name === 'AbortError') {
      throw error;
    }
    throw new Problem(0, 'unreachable', 'The server does not answer. What was asked for may have been done or not.');
  }
}

async function problem(response) {
  const document = await response.json().catch(() => ({}));
  const code = document.code ?? `http_${response.status}`;
  const found = new Problem(response.status, code, document.detail ?? 'The answer says no more than its status.');
  if (response.status === 401) {
    end('This key is not known any more: it was renewed, or taken away. Sign in with another.');
  }
  return found;
}

/** What came of a promise, where a page goes on without it: `{value}` or `{problem}`. */
export async function settled(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    if (error instanceof Problem) {
      return { problem: error };
    }
    throw error;
  }
}
