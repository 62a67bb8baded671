// Whom a tenant believes: authorities, signers, and what authorities have revoked.

import { get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { time } from '../lib/format.js';
import { link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { pager } from '../parts/pager.js';
import { table } from '../parts/table.js';

const SOON = 30 * 86400;

export const certificates = {
  title: () => 'Certificates',
  load: async ({ query, signal }) => {
    const [page, lists] = await Promise.all([get('/cert', query, signal), get('/cert', { cert_type: 'crl' }, signal)]);
    const ids = page.certs.map((certificate) => certificate.cert_id).join(',');
    const { certs } = ids === '' ? { certs: [] } : await get('/cert', { ids }, signal);
    return [
      mayChange() && el('p', { class: 'actions' }, el('a', { class: 'button main', href: link(['certificates', 'new']) }, 'Add a certificate')),
      table('Authorities and signers', ['Certificate', 'Good for', 'Subject', 'Valid until'], certs.map(certificateRow), { empty: 'None is registered.' }),
      pager(['certificates'], query, page.next_cursor),
      table('Revocation lists', ['List', 'Of', 'Made', 'Next one', 'Revoked'], lists.crls.map(listRow), { empty: 'None is registered.' }),
    ];
  },
};

function certificateRow(certificate) {
  const each = certificate.certificates;
  const subjects = each.map((one) => one.subject);
  const first = each.length > 0 && each.reduce((one, other) => (other.not_after < one.not_after ? other : one));
  return [
    el('a', { href: link(['certificate', certificate.cert_id]) }, certificate.cert_name),
    certificate.cert_type.join(', '),
    [subjects[0] ?? '—', subjects.length > 1 && ` and ${subjects.length - 1} more`],
    first ? validity(first.not_after) : '—',
  ];
}

function listRow(list) {
  const [one] = list.revocation_lists;
  return [
    el('a', { href: link(['certificate', list.crl_id], { type: 'crl' }) }, list.crl_name),
    one?.issuer ?? '—',
    one ? time(one.this_update) : '—',
    one?.next_update ? validity(one.next_update) : '—',
    one ? one.revoked.toLocaleString('en') : '—',
  ];
}

/** When something ends, and whether it is to be looked after. */
export function validity(seconds) {
  const left = seconds - Date.now() / 1000;
  return [time(seconds), left < 0 ? el('strong', { class: 'warn' }, ' expired') : left < SOON && el('strong', { class: 'warn' }, ' soon')];
}
