// Rego with numbers before its lines.

import { el } from '../lib/dom.js';

const TOKENS = /(#.*$)|("(?:[^"\\]|\\.)*"|`[^`]*`)|\b(package|import|default|if|else|contains|every|some|in|not|with|as|true|false|null)\b/gu;
const CLASSES = ['comment', 'string', 'keyword'];

/** A text with numbered lines; those in `marked` are shown as where it stopped. */
export function code(text, marked = []) {
  const lines = text.replace(/\n$/u, '').split('\n');
  return el(
    'div',
    { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Text of the policy' },
    el('ol', { class: 'code' }, lines.map((line, index) => numbered(line, marked.includes(index + 1)))),
  );
}

function numbered(line, marked) {
  const content = el('code', {}, tokens(line));
  if (!marked) {
    return el('li', {}, content);
  }
  return el('li', { class: 'marked' }, el('mark', {}, content), el('span', { class: 'note' }, 'stopped here'));
}

function tokens(line) {
  const parts = [];
  let end = 0;
  for (const match of line.matchAll(TOKENS)) {
    const kind = CLASSES[match.slice(1).findIndex((group) => group !== undefined)];
    parts.push(line.slice(end, match.index), el('span', { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(line.slice(end));
  return parts;
}
