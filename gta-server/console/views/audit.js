// Who changed what.

import { get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { time } from '../lib/format.js';
import { go, link } from '../lib/router.js';
import { who } from '../lib/session.js';
import { select } from '../parts/form.js';
import { pager } from '../parts/pager.js';
import { table } from '../parts/table.js';

const KINDS = [
  ['', 'Everything but events'],
  ['node', 'Nodes'],
  ['policy', 'Policies'],
  ['cert', 'Certificates'],
  ['crl', 'Revocation lists'],
  ['ref_value', 'Reference values'],
  ['api_key', 'API keys'],
  ['identity', 'Identities'],
  ['event', 'Events'],
];

const PAGES = { node: 'node', policy: 'policy', cert: 'certificate', ref_value: 'ref-value' };

export const audit = {
  title: () => 'Audit',
  load: async ({ query, signal }) => {
    const page = await get('/audit', query, signal);
    const rows = page.entries.map((entry) => [time(entry.at), actor(entry.actor), entry.change, entry.kind, document(entry), String(entry.version)]);
    return [
      filter(query),
      table('Changes of documents, the last first', ['When', 'Who', 'Change', 'Of', 'Id', 'Version'], rows, { quiet: true, empty: 'Nothing was changed.' }),
      pager(['audit'], query, page.next_cursor),
    ];
  },
};

function filter(query) {
  const show = (event) => {
    event.preventDefault();
    go(['audit'], { kind: event.target.kind.value });
  };
  return el(
    'form',
    { class: 'filter', on: { submit: show } },
    select('Changes of', 'kind', KINDS, query.kind),
    el('button', { type: 'submit', id: 'apply' }, 'Show'),
  );
}

function actor(name) {
  return [el('code', {}, name), name === who()?.actor && ' (you)'];
}

function document(entry) {
  const page = PAGES[entry.kind];
  const id = el('code', { class: 'digest' }, entry.id);
  return page && entry.change !== 'deleted' ? el('a', { href: link([page, entry.id]) }, id) : id;
}
