// Goes from page to page, and knows who is signed in.

import { announce } from './lib/announce.js';
import { el, put, visible } from './lib/dom.js';
import { zone } from './lib/format.js';
import { address } from './lib/router.js';
import { end, onEnd, who } from './lib/session.js';
import { problemBox } from './parts/problem.js';
import { audit } from './views/audit.js';
import { certificate } from './views/certificate.js';
import { certificateForm } from './views/certificate-form.js';
import { certificates } from './views/certificates.js';
import { node } from './views/node.js';
import { nodeForm } from './views/node-form.js';
import { nodes } from './views/nodes.js';
import { overview } from './views/overview.js';
import { policies } from './views/policies.js';
import { policy } from './views/policy.js';
import { changedPolicy, newPolicy } from './views/policy-form.js';
import { refValue } from './views/ref-value.js';
import { changedRefValue, newRefValue } from './views/ref-value-form.js';
import { refValues } from './views/ref-values.js';
import { signIn } from './views/sign-in.js';

const main = document.getElementById('main');
const nav = document.getElementById('nav');

// A page is `{title, load}`: load gives the content, and is given what the address says and what ends with the page.
const PAGES = {
  '': overview,
  nodes,
  'nodes/new': nodeForm,
  'node/*': node,
  policies,
  'policies/new': newPolicy,
  'policy/*': policy,
  'policy/*/change': changedPolicy,
  'ref-values': refValues,
  'ref-values/new': newRefValue,
  'ref-value/*': refValue,
  'ref-value/*/change': changedRefValue,
  certificates,
  'certificates/new': certificateForm,
  'certificate/*': certificate,
  audit,
};

const NOWHERE = {
  title: () => 'No such page',
  load: async () => el('p', {}, 'The console has no page at this address.'),
};

let shown = new AbortController();
let current = null;
let message = '';

/** Shows the page at the address. */
async function show() {
  shown.abort();
  const here = new AbortController();
  shown = here;
  const { path, query } = address();
  const page = who() ? found(path) : signIn;
  const signal = here.signal;
  const context = { id: path[1], query, signal, reload: show, say, entered: show };
  const held = page === current ? document.activeElement?.id : '';
  main.setAttribute('aria-busy', 'true');
  const content = await loaded(page, context);
  if (signal.aborted) {
    return;
  }
  current = page;
  render(page.title(context), content, held);
  furnish(path[0] ?? '');
}

async function loaded(page, context) {
  try {
    return await page.load(context);
  } catch (error) {
    // Nobody waits any more for a page that was left.
    return context.signal.aborted ? null : problemBox(error);
  }
}

function render(title, content, held) {
  const said = message;
  message = '';
  document.title = `${visible(title)} · Global Trust Authority`;
  const heading = el('h1', { tabindex: '-1' }, title);
  put(main, heading, said && el('p', { class: 'done' }, said), content);
  main.removeAttribute('aria-busy');
  const same = held && document.getElementById(held);
  (same || main.querySelector('[data-first]') || heading).focus();
  main.querySelector('.marked')?.scrollIntoView({ block: 'center' });
  if (said) {
    announce(said);
  }
}

function found(path) {
  const patterns = [path.join('/'), path.map((part, index) => (index === 1 ? '*' : part)).join('/')];
  const pattern = patterns.find((name) => Object.hasOwn(PAGES, name));
  return pattern === undefined ? NOWHERE : PAGES[pattern];
}

/** What is said on the next page. */
function say(sentence) {
  message = sentence;
}

const SECTIONS = { node: 'nodes', policy: 'policies', 'ref-value': 'ref-values', certificate: 'certificates' };

function furnish(section) {
  const user = who();
  nav.hidden = !user;
  document.getElementById('who').hidden = !user;
  put(document.getElementById('who-text'), user ? `${user.tenant} · ${user.role}` : '');
  for (const anchor of nav.querySelectorAll('a')) {
    const here = anchor.getAttribute('href') === `#/${SECTIONS[section] ?? section}`;
    here ? anchor.setAttribute('aria-current', 'page') : anchor.removeAttribute('aria-current');
  }
}

document.getElementById('sign-out').addEventListener('click', () => {
  // Where somebody was is not for the next one.
  location.hash = '#/';
  end('Signed out. The key is forgotten.');
});
// The address names pages: the way past the navigation must not change it.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.querySelector('h1')?.focus();
});
onEnd((reason) => {
  say(reason);
  show();
});
window.addEventListener('hashchange', show);
put(document.getElementById('zone'), `Times are in ${zone()}.`);
show();
