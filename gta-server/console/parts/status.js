// How a node is, by word, shape and colour.

import { el, svg } from '../lib/dom.js';

/** Every status, in the order in which it is to be looked at. */
export const STATUSES = {
  failed: { name: 'Failed', meaning: 'true, and not accepted', shape: ['M3.5 3.5l9 9M12.5 3.5l-9 9'] },
  refused: { name: 'Refused', meaning: 'may be untrue', shape: ['M8 2.5v7', 'M8 13v.5'] },
  missed: { name: 'Missed', meaning: 'no report in time', shape: ['M8 3.5V8l3 2.5', 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z'] },
  passed: { name: 'Passed', meaning: 'accepted', shape: ['M3 8.5l3.5 3.5L13 4.5'] },
};

/** A status as a badge. */
export function badge(status) {
  const known = Object.hasOwn(STATUSES, status) ? STATUSES[status] : { name: status, shape: [] };
  return el('span', { class: `badge ${Object.hasOwn(STATUSES, status) ? status : ''}` }, icon(known.shape), known.name);
}

/** The badge of a node that has never reported. */
export function silent() {
  return el('span', { class: 'badge' }, 'Silent');
}

function icon(shape) {
  const paths = shape.map((d) => svg('path', { d }));
  return svg('svg', { viewBox: '0 0 16 16', class: 'icon', 'aria-hidden': 'true', focusable: 'false' }, paths);
}
