// One node: how it is and why, what happened to it, and why its key is believed.

import { announceLast } from '../lib/announce.js';
import { Problem, get, settled } from '../lib/api.js';
import { decodeText } from '../lib/base64.js';
import { el, put } from '../lib/dom.js';
import { age, count, duration, time, timeAndAge } from '../lib/format.js';
import { go } from '../lib/router.js';
import { mayChange } from '../lib/session.js';
import { follow } from '../lib/stream.js';
import { facts, section } from '../parts/facts.js';
import { pager } from '../parts/pager.js';
import { problemBox } from '../parts/problem.js';
import { brief, explained } from '../parts/reason.js';
import { changes, removal } from '../parts/removal.js';
import { STATUSES, badge, silent } from '../parts/status.js';
import { table } from '../parts/table.js';

const EVENTS = 50;

export const node = {
  title: ({ id }) => id,
  load: async (context) => {
    const { id, query, signal } = context;
    const before = query.before;
    const [status, enrolled, history] = await Promise.all([
      get('/status', { ids: id }, signal),
      settled(get('/node', { ids: id }, signal)),
      get('/event', { node_id: id, before, limit: EVENTS }, signal),
    ]);
    const health = status.nodes.find((found) => found.node_id === id);
    const document = enrolled.value?.nodes.find((found) => found.node_id === id);
    if (!health && !document && !enrolled.problem && history.events.length === 0) {
      throw new Problem(404, 'unknown', 'There is no node of this name, and none has reported under it.');
    }
    const reasons = Object.values(health?.evidences ?? {}).flatMap((evidence) => evidence.reason ?? []);
    const policies = await knownPolicies(reasons, signal);
    const news = el('p', { class: 'news', hidden: true });
    if (!before) {
      watch(id, history.events[0]?.seq, signal, news, context.reload);
    }
    return [
      news,
      health ? state(health) : el('p', {}, silent(), ' It has not reported, or was forgotten.'),
      reasons.map((reason) => explained(reason, policies)),
      section('History', events(history.events), pager(['node', id], query, older(history.events), 'before')),
      section('Enrolment', enrolment(document, enrolled.problem)),
      mayChange() && (health || document) && actions({ id, health, document, context }),
    ];
  },
};

function state(health) {
  const late = health.deadline && health.deadline < Date.now() / 1000;
  return facts(
    ['Status', badge(health.status)],
    ['Since', timeAndAge(health.since)],
    ['Last report', timeAndAge(health.reported_at)],
    ['Reports', health.reports.toLocaleString('en')],
    ['Evidence', Object.entries(health.evidences).map(evidence)],
    ['Next report due', health.deadline && [time(health.deadline), late ? ' (late)' : ` (${age(health.deadline)})`]],
  );
}

/** What came of one type of evidence, and how often it is to come. */
function evidence([type, known]) {
  const often = known.report_interval && `, at least every ${duration(known.report_interval)}`;
  return el('div', {}, `${type} `, badge(known.status), often);
}

/** What is known of the policies that reasons point at; nothing, if the key may not look. */
async function knownPolicies(reasons, signal) {
  const findings = reasons.flatMap((reason) => reason.findings ?? []);
  const found = findings.filter((finding) => finding.kind === 'policy').map((finding) => finding.id);
  if (found.length === 0) {
    return () => undefined;
  }
  const [own, builtIn] = await Promise.all([
    settled(get('/policy', { ids: found.join(',') }, signal)),
    settled(get('/policy/built_in', {}, signal)),
  ]);
  const known = (list, fits) => {
    const policy = list.value?.policies.find(fits);
    return policy && { version: policy.version, text: decodeText(policy.content) };
  };
  return (id, type) => {
    const fits = (policy) => policy.id === id && (id !== 'default' || policy.attester_type.includes(type));
    return known(id === 'default' ? builtIn : own, fits);
  };
}

function events(list) {
  const rows = list.map((event) => [time(event.at), event.before ? badge(event.before) : 'new', badge(event.status), brief(event.reason)]);
  return table('Changes of this node, the last first', ['When', 'Was', 'Is', 'Why'], rows, { quiet: true, empty: 'Nothing has happened.' });
}

/** The number before which older events are; none, if these were all. */
function older(list) {
  return list.length === EVENTS ? list[list.length - 1].seq : undefined;
}

const REASONS = {
  activated: 'Its TPM has opened a credential for its endorsement key',
  certified: 'The initial key that its maker certified vouches for its key',
  pinned: 'An administrator has pinned its key',
};

function enrolment(document, problem) {
  if (problem) {
    return problemBox(problem);
  }
  if (!document) {
    return el('p', {}, 'No node is enrolled under this name.');
  }
  const { provenance } = document;
  return facts(
    ['Enrolled', timeAndAge(document.enrolled_at)],
    ['Believed because', REASONS[provenance.kind] ?? provenance.kind],
    ['Manufacturer', provenance.root],
    ['Initial key\u2019s certificate', provenance.initial && el('code', { class: 'digest' }, provenance.initial)],
    ['Endorsement certificate', provenance.endorsement && el('code', { class: 'digest' }, provenance.endorsement)],
    ['Attestation key', el('details', {}, el('summary', {}, 'TPMT_PUBLIC in base64'), el('code', { class: 'digest' }, document.ak_public))],
  );
}

function actions({ id, health, document, context }) {
  return changes((trouble) => [
    health && removal('Forget its status', {
      title: `Forget how ${id} is?`,
      text: 'Its status goes, and no report of it is missed any more. It stays enrolled, and its next report is its first.',
      action: 'Forget it',
      path: '/status',
      body: { ids: [id] },
      danger: false,
      trouble,
      after: () => {
        context.say(`How ${id} is was forgotten.`);
        context.reload();
      },
    }),
    document && removal('Delete this node', {
      title: `Delete ${id}?`,
      text: 'Its key is not believed any more, and another machine can be enrolled under its name.',
      path: '/node',
      body: { delete_type: 'id', ids: [id] },
      trouble,
      after: () => {
        context.say(`${id} was deleted.`);
        go(['nodes']);
      },
    }),
  ]);
}

/** The page stays as it is while somebody reads it, and says that there is something new. */
function watch(id, last, signal, news, reload) {
  let changes = 0;
  const came = (event) => {
    changes += 1;
    const sentence = `${count(changes, 'change')} since this page was loaded: it is ${STATUSES[event.status]?.name ?? event.status} now.`;
    put(news, sentence, ' ', el('button', { type: 'button', on: { click: reload } }, 'Load again'));
    news.hidden = false;
    announceLast(sentence);
  };
  follow('/event/stream', { node_id: id }, last, signal, came, () => {});
}
