// One document of certificates, or of revocation lists.

import { Problem, get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { time } from '../lib/format.js';
import { go } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { facts, section } from '../parts/facts.js';
import { changes, removal } from '../parts/removal.js';
import { validity } from './certificates.js';

const AFTERWARDS = 'What it vouches for is not believed any more: machines that it certifies are refused, and nothing that it signs can be added.';
const titles = new Map();

export const certificate = {
  title: ({ id, query }) => `${query.type === 'crl' ? 'Revocation list' : 'Certificate'} ${titles.get(id) ?? ''}`,
  load: async (context) => {
    const crl = context.query.type === 'crl';
    const found = crl ? await revocationList(context) : await certificateOf(context);
    titles.set(context.id, found.name);
    return [
      facts(['Good for', found.kinds], ['Description', found.description], ['Version', found.version], ['Id', el('code', {}, context.id)]),
      found.parts,
      section('PEM', el('details', {}, el('summary', {}, 'Show the text'), el('pre', {}, found.pem))),
      mayChange() && changes((trouble) => removal('Delete this', {
        title: `Delete ${found.name}?`,
        text: crl ? 'What it has revoked is believed again.' : AFTERWARDS,
        path: '/cert',
        body: { delete_type: 'id', ids: [context.id], ...(crl ? { type: 'crl' } : {}) },
        trouble,
        after: () => {
          context.say(`${found.name} was deleted.`);
          go(['certificates']);
        },
      })),
    ];
  },
};

async function certificateOf({ id, signal }) {
  const { certs } = await get('/cert', { ids: id }, signal);
  const found = certs.find((one) => one.cert_id === id) ?? unknown();
  return {
    name: found.cert_name,
    kinds: found.cert_type.join(', '),
    description: found.description,
    version: String(found.version),
    pem: found.content,
    parts: found.certificates.map((one) => section(one.subject, facts(
      ['Issuer', one.issuer === one.subject ? 'Itself' : one.issuer],
      ['Valid from', time(one.not_before)],
      ['Valid until', validity(one.not_after)],
      ['Serial', el('code', { class: 'digest' }, one.serial)],
      ['SHA-256', el('code', { class: 'digest' }, one.fingerprint)],
    ))),
  };
}

async function revocationList({ id, signal }) {
  const { crls } = await get('/cert', { cert_type: 'crl', ids: id }, signal);
  const found = crls.find((one) => one.crl_id === id) ?? unknown();
  return {
    name: found.crl_name,
    pem: found.crl_content,
    parts: found.revocation_lists.map((one) => section(one.issuer, facts(
      ['Made', time(one.this_update)],
      ['Next one', one.next_update && validity(one.next_update)],
      ['Revoked certificates', one.revoked.toLocaleString('en')],
    ))),
  };
}

function unknown() {
  throw new Problem(404, 'unknown', 'There is no certificate with this id: it was deleted.');
}
