// One policy with its text.

import { Problem, get } from '../lib/api.js';
import { decodeText } from '../lib/base64.js';
import { el } from '../lib/dom.js';
import { timeAndAge } from '../lib/format.js';
import { go, link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { code } from '../parts/code.js';
import { facts, section } from '../parts/facts.js';
import { changes, removal } from '../parts/removal.js';

const BUILT_IN = 'default';
const titles = new Map();

export const policy = {
  title: ({ id, query }) => (id === BUILT_IN ? `Built-in policy for ${query.type}` : `Policy ${titles.get(id) ?? ''}`),
  load: async (context) => {
    const found = await policyOf(context);
    titles.set(found.id, found.name);
    const { query } = context;
    const lines = (query.lines ?? '').split(',').map(Number);
    const same = query.version === undefined || Number(query.version) === found.version;
    return [
      facts(
        ['Evidence', found.attester_type.join(', ')],
        ['Applies to', found.is_default ? 'All evidence of its types' : 'Evidence for which a client names it'],
        ['Version', String(found.version)],
        ['Changed', found.update_time && timeAndAge(found.update_time / 1000)],
        ['Description', found.description],
        ['Id', el('code', {}, found.id)],
      ),
      !same && el('p', { class: 'news' }, `It has been changed: a node was judged by version ${query.version}, of which no text is kept.`),
      section('Rego', code(decodeText(found.content), same ? lines : [])),
      found.rules && section('Rules for platforms and logs', el('pre', {}, JSON.stringify(found.rules, null, 2))),
      mayChange() && found.id !== BUILT_IN && changes((trouble) => [
        el('a', { class: 'button', href: link(['policy', found.id, 'change']) }, 'Change this policy'),
        removal('Delete this policy', {
          title: `Delete ${found.name}?`,
          text: 'Evidence is judged without it from now on.',
          path: '/policy',
          body: { delete_type: 'id', ids: [found.id] },
          trouble,
          after: () => {
            context.say(`${found.name} was deleted.`);
            go(['policies']);
          },
        }),
      ]),
    ];
  },
};

/** The policy that the address names. */
export async function policyOf({ id, query, signal }) {
  const page = id === BUILT_IN ? await get('/policy/built_in', {}, signal) : await get('/policy', { ids: id }, signal);
  const found = page.policies.find((policy) => policy.id === id && (id !== BUILT_IN || policy.attester_type.includes(query.type)));
  if (!found) {
    throw new Problem(404, 'unknown', 'There is no policy with this id: it was deleted.');
  }
  return found;
}
