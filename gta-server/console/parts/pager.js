// From page to page of a list. The server tells where the next page begins, so the pages before are remembered.

import { el } from '../lib/dom.js';
import { link } from '../lib/router.js';

const before = new Map();

/** Links to the first, the previous and the next page of what `query` asks for; `next` is what the next one begins with. */
export function pager(path, query, next, member = 'cursor') {
  const { [member]: here, ...asked } = query;
  const of = (mark) => link(path, { ...asked, [member]: mark });
  const known = before.get(link(path, query));
  if (next !== undefined) {
    before.set(of(next), here ?? '');
  }
  if (!here && next === undefined) {
    return null;
  }
  return el(
    'nav',
    { class: 'pager', 'aria-label': 'Pages' },
    here && el('a', { href: of('') }, 'First page'),
    here && known && el('a', { href: of(known) }, 'Previous page'),
    next !== undefined && el('a', { href: of(next), rel: 'next' }, 'Next page'),
  );
}
