// One set of reference values: what its signed content says.

import { Problem, get } from '../lib/api.js';
import { decodeText } from '../lib/base64.js';
import { el, put } from '../lib/dom.js';
import { count } from '../lib/format.js';
import { go, link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { facts, section } from '../parts/facts.js';
import { field } from '../parts/form.js';
import { changes, removal } from '../parts/removal.js';
import { table } from '../parts/table.js';

// More rows than that are of no use, and slow; the search is over all.
const ROWS = 200;
const titles = new Map();

export const refValue = {
  title: ({ id }) => `Reference values ${titles.get(id) ?? ''}`,
  load: async (context) => {
    const found = await refValueOf(context);
    titles.set(found.id, found.name);
    const payload = JSON.parse(decodeText(found.content.split('.')[1]));
    return [
      facts(
        ['Evidence', found.attester_type],
        ['Version', found.version],
        ['Description', found.description],
        ['Id', el('code', {}, found.id)],
      ),
      files(payload.referenceValues ?? []),
      machines(payload.realms ?? []),
      mayChange() && changes((trouble) => [
        el('a', { class: 'button', href: link(['ref-value', found.id, 'change']) }, 'Change this set'),
        removal('Delete this set', {
          title: `Delete ${found.name}?`,
          text: 'What is only in this set is not known any more.',
          path: '/ref_value',
          body: { delete_type: 'id', ids: [found.id] },
          trouble,
          after: () => {
            context.say(`${found.name} was deleted.`);
            go(['ref-values']);
          },
        }),
      ]),
    ];
  },
};

/** The set that the address names. */
export async function refValueOf({ id, signal }) {
  const page = await get('/ref_value', { ids: id }, signal);
  const found = page.ref_values.find((set) => set.id === id);
  if (!found) {
    throw new Problem(404, 'unknown', 'There are no reference values with this id: they were deleted.');
  }
  return found;
}

function files(known) {
  if (known.length === 0) {
    return null;
  }
  const shown = el('div');
  const said = el('p', { class: 'quiet', role: 'status' });
  const search = field('Path or digest contains', { id: 'file', type: 'search', autocomplete: 'off', spellcheck: 'false' });
  const show = () => {
    const text = search.querySelector('input').value.toLowerCase();
    const fitting = known.filter((file) => `${file.fileName}\n${file.sha256}`.toLowerCase().includes(text));
    const rows = fitting.slice(0, ROWS).map((file) => [el('span', { class: 'path' }, file.fileName), el('code', { class: 'digest' }, file.sha256)]);
    put(said, rows.length < fitting.length ? `The first ${rows.length} of ${count(fitting.length, 'file')}.` : `${count(fitting.length, 'file')}.`);
    put(shown, table('Files that may be used', ['File', 'SHA-256'], rows, { quiet: true, empty: 'No file fits.' }));
  };
  search.addEventListener('input', show);
  show();
  return section('Files', search, said, shown);
}

function machines(known) {
  const rows = known.slice(0, ROWS).map((realm) => [realm.name, el('code', { class: 'digest' }, realm.rim), realm.rpv ? el('code', { class: 'digest' }, realm.rpv) : 'any']);
  return known.length > 0 && section('Machines', table('virtCCA machines that may run', ['Machine', 'Initial measurement', 'Personalisation value'], rows, { quiet: true }));
}
