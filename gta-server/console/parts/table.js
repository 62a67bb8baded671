// Tables.

import { el } from '../lib/dom.js';

/** A table with a caption. Each row has as many cells as there are columns; its first one is its header. */
export function table(caption, columns, rows, { quiet = false, empty = 'There is nothing here.' } = {}) {
  const head = el('tr', {}, columns.map((column) => el('th', { scope: 'col' }, column)));
  const body = el('tbody', {}, rows.map((cells) => row(cells)));
  return el(
    'div',
    { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': caption },
    el(
      'table',
      {},
      el('caption', { class: quiet ? 'hidden' : null }, caption),
      el('thead', {}, head),
      rows.length > 0 ? body : el('tbody', {}, el('tr', {}, el('td', { colspan: columns.length, class: 'quiet' }, empty))),
    ),
  );
}

/** A row. */
export function row(cells) {
  const [first, ...others] = cells;
  return el('tr', {}, el('th', { scope: 'row' }, first), others.map((cell) => el('td', {}, cell)));
}
