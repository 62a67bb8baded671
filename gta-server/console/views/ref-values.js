// What is known: sets of files and machines.

import { get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { pager } from '../parts/pager.js';
import { table } from '../parts/table.js';

export const refValues = {
  title: () => 'Reference values',
  load: async ({ query, signal }) => {
    const page = await get('/ref_value', query, signal);
    const rows = page.ref_values.map((set) => [
      el('a', { href: link(['ref-value', set.id]) }, set.name),
      set.attester_type,
      set.version,
    ]);
    return [
      mayChange() && el('p', { class: 'actions' }, el('a', { class: 'button main', href: link(['ref-values', 'new']) }, 'Add reference values')),
      table('Sets of reference values', ['Set', 'Evidence', 'Version'], rows, { empty: 'None are registered: no file and no machine is known.' }),
      pager(['ref-values'], query, page.next_cursor),
    ];
  },
};
