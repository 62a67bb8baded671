// What is known of one thing.

import { el } from '../lib/dom.js';

/** A list of names and values; those without a value are left out. */
export function facts(...pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: 'facts' }, given.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
}

/** A part of a page with a heading. */
export function section(title, ...content) {
  return el('section', {}, el('h2', {}, title), content);
}
