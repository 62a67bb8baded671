// The policies of a tenant, and those that it has without having registered any.

import { get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { time } from '../lib/format.js';
import { link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { section } from '../parts/facts.js';
import { pager } from '../parts/pager.js';
import { table } from '../parts/table.js';

export const policies = {
  title: () => 'Policies',
  load: async ({ query, signal }) => {
    const [page, builtIn] = await Promise.all([get('/policy', query, signal), get('/policy/built_in', {}, signal)]);
    const own = page.policies.map((policy) => [
      el('a', { href: link(['policy', policy.id]) }, policy.name),
      policy.attester_type.join(', '),
      policy.is_default ? 'All evidence of its types' : 'Where it is named',
      String(policy.version),
      time(policy.update_time / 1000),
    ]);
    return [
      mayChange() && el('p', { class: 'actions' }, el('a', { class: 'button main', href: link(['policies', 'new']) }, 'Add a policy')),
      table('Policies of this tenant', ['Policy', 'Evidence', 'Applies to', 'Version', 'Changed'], own, { empty: 'None is registered.' }),
      pager(['policies'], query, page.next_cursor),
      section(
        'Built in',
        el('p', {}, 'They apply to evidence of a type for which no policy above applies to all of it.'),
        el('ul', { class: 'plain' }, builtIn.policies.map((policy) => {
          const [type] = policy.attester_type;
          return el('li', {}, el('a', { href: link(['policy', policy.id], { type }) }, type));
        })),
      ),
    ];
  },
};
