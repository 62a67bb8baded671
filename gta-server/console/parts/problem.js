// What the server refuses, in its words.

import { Problem } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { who } from '../lib/session.js';

const ADVICE = {
  403: () => `This key has the role ${who()?.role ?? 'of nobody'}; another key may.`,
  429: () => 'Wait a little and try again.',
  503: () => 'Try again in a few seconds; if that does not help, look at the log of the server.',
};

/** A box with the detail and the code of a problem; of anything else, that it was not expected. */
export function problemBox(error) {
  const problem = error instanceof Problem ? error : unexpected(error);
  const advice = ADVICE[problem.status]?.();
  return el(
    'div',
    { class: 'problem', role: 'alert' },
    el('p', {}, el('strong', {}, problem.message)),
    advice && el('p', {}, advice),
    el('p', { class: 'quiet' }, 'Code ', el('code', {}, problem.code), problem.status > 0 && `, status ${problem.status}`),
  );
}

function unexpected(error) {
  console.error(error);
  return new Problem(0, 'unexpected', 'The server has answered something that this page does not understand.');
}
