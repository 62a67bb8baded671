// How all nodes are, and what happens to them.

import { announceLast } from '../lib/announce.js';
import { get } from '../lib/api.js';
import { el, put } from '../lib/dom.js';
import { count, time } from '../lib/format.js';
import { link } from '../lib/router.js';
import { follow } from '../lib/stream.js';
import { problemBox } from '../parts/problem.js';
import { brief } from '../parts/reason.js';
import { STATUSES, badge } from '../parts/status.js';
import { row, table } from '../parts/table.js';

const EVENTS = 20;
// Counting is as much work for the server as there are nodes.
const PAUSE = 3000;

export const overview = {
  title: () => 'Overview',
  load: async ({ signal }) => {
    const [status, page] = await Promise.all([
      get('/status', { limit: 1 }, signal),
      get('/event', { limit: EVENTS }, signal),
    ]);
    const tiles = el('div', { class: 'dashboard' }, dashboard(status.counts));
    const columns = ['When', 'Node', 'Was', 'Is', 'Why'];
    const events = table('Latest changes, the last first', columns, page.events.map(cells), {
      quiet: true,
      empty: 'No node has reported yet.',
    });
    const state = el('p', { class: 'stream' }, 'Connecting');
    listen({ signal, tiles, events, state, seen: page.events });
    return [tiles, el('section', {}, el('div', { class: 'head' }, el('h2', {}, 'Latest changes'), state), events)];
  },
};

/** What is known of an event, in the columns of the overview. */
function cells(event) {
  return [time(event.at), el('a', { href: link(['node', event.node_id]) }, event.node_id), before(event), badge(event.status), brief(event.reason)];
}

function before(event) {
  return event.before ? badge(event.before) : 'new';
}

function dashboard(counts) {
  const names = Object.keys(STATUSES);
  const total = names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
  const tile = (name) => el(
    'li',
    {},
    el(
      'a',
      { class: `tile ${name}`, href: link(['nodes'], { status: name }) },
      el('span', { class: 'number' }, (counts[name] ?? 0).toLocaleString('en')),
      badge(name),
      el('span', { class: 'quiet' }, STATUSES[name].meaning),
    ),
  );
  return [
    el('ul', { class: 'tiles' }, names.map(tile)),
    bar(names, counts),
    el('p', { class: 'quiet' }, total === 0 ? 'No node has reported yet.' : ['Of ', el('a', { href: link(['nodes']) }, count(total, 'node')), ' that report.']),
  ];
}

/** The tiles say the same in numbers. */
function bar(names, counts) {
  const parts = names.filter((name) => counts[name] > 0).map((name) => {
    const part = el('span', { class: name });
    part.style.flexGrow = counts[name];
    return part;
  });
  return el('div', { class: 'bar', 'aria-hidden': 'true' }, parts);
}

function listen({ signal, tiles, events, state, seen }) {
  const body = events.querySelector('tbody');
  let first = seen.length === 0;
  let timer = null;
  const refresh = () => {
    timer ??= setTimeout(async () => {
      timer = null;
      const status = await get('/status', { limit: 1 }, signal).catch(() => null);
      if (status && !signal.aborted) {
        put(tiles, dashboard(status.counts));
      }
    }, PAUSE);
  };
  signal.addEventListener('abort', () => clearTimeout(timer));
  const came = (event) => {
    if (first) {
      put(body);
      first = false;
    }
    const added = row(cells(event));
    added.classList.add('fresh');
    body.prepend(added);
    while (body.rows.length > EVENTS) {
      body.deleteRow(-1);
    }
    announceLast(`${event.node_id}: ${STATUSES[event.status]?.name ?? event.status}`);
    refresh();
  };
  const told = (how, problem) => {
    if (how === 'over') {
      state.replaceWith(problemBox(problem));
      return;
    }
    state.className = `stream ${how}`;
    put(state, how === 'live' ? 'Live' : 'The server is asked again in a moment');
  };
  follow('/event/stream', {}, seen[0]?.seq, signal, came, told);
}
