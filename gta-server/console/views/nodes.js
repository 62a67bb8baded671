// The nodes of a tenant: those that report, and those that are enrolled.

import { announce } from '../lib/announce.js';
import { get } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { count, time } from '../lib/format.js';
import { go, link } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { field, select } from '../parts/form.js';
import { pager } from '../parts/pager.js';
import { brief } from '../parts/reason.js';
import { STATUSES, badge, silent } from '../parts/status.js';
import { table } from '../parts/table.js';

const ENROLLED = 'enrolled';

export const nodes = {
  title: () => 'Nodes',
  load: async ({ query, signal }) => {
    const shown = query.status === ENROLLED ? await enrolled(query, signal) : await reporting(query, signal);
    announce(`${count(shown.rows.length, 'node')} on this page`);
    return [
      filter(query, shown.counts),
      table(shown.caption, shown.columns, shown.rows, { empty: 'No node fits.' }),
      pager(['nodes'], query, shown.next),
    ];
  },
};

function filter(query, counts) {
  const sum = Object.values(counts ?? {}).reduce((sum, part) => sum + part, 0);
  const counted = (name, number) => (counts ? `${name} (${number.toLocaleString('en')})` : name);
  const options = [
    ['', counted('All that report', sum)],
    ...Object.entries(STATUSES).map(([status, { name }]) => [status, counted(name, counts?.[status] ?? 0)]),
    [ENROLLED, 'Enrolled, reporting or not'],
  ];
  const search = (event) => {
    event.preventDefault();
    go(['nodes'], { status: event.target.status.value, search: event.target.search.value.trim() });
  };
  return el(
    'form',
    { class: 'filter', role: 'search', on: { submit: search } },
    field('Name contains', { id: 'search', type: 'search', maxlength: 255, value: query.search ?? '', autocomplete: 'off', spellcheck: 'false' }),
    select('Status', 'status', options, query.status),
    el('button', { type: 'submit', id: 'apply' }, 'Show'),
    mayChange() && el('a', { class: 'button', href: link(['nodes', 'new']) }, 'Pin a node'),
  );
}

async function reporting(query, signal) {
  const page = await get('/status', query, signal);
  return {
    caption: 'Nodes that report',
    columns: ['Node', 'Status', 'Since', 'Last report', 'Next one due', 'Why'],
    rows: page.nodes.map((node) => [name(node.node_id), ...health(node), brief(node.reason)]),
    counts: page.counts,
    next: page.next_cursor,
  };
}

/** Enrolled nodes, with what is known of those that report. */
async function enrolled({ status: _, ...query }, signal) {
  const page = await get('/node', query, signal);
  const ids = page.nodes.map((node) => node.node_id).join(',');
  const status = ids === '' ? { nodes: [] } : await get('/status', { ids, limit: 100 }, signal);
  const known = new Map(status.nodes.map((node) => [node.node_id, node]));
  return {
    caption: 'Nodes that are enrolled',
    columns: ['Node', 'Status', 'Since', 'Last report', 'Next one due', 'Enrolled'],
    rows: page.nodes.map((node) => [name(node.node_id), ...health(known.get(node.node_id)), time(node.enrolled_at)]),
    next: page.next_cursor,
  };
}

function name(id) {
  return el('a', { href: link(['node', id]) }, id);
}

function health(node) {
  if (!node) {
    return [silent(), '—', '—', '—'];
  }
  return [badge(node.status), time(node.since), time(node.reported_at), node.deadline ? time(node.deadline) : '—'];
}
