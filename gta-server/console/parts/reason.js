// Why a node is not accepted: in words, and what that points at.

import { el } from '../lib/dom.js';
import { link } from '../lib/router.js';
import { section } from './facts.js';
import { table } from './table.js';

/** What a reason is about, in one line. */
export function brief(reason) {
  if (!reason) {
    return null;
  }
  return el('span', { class: 'brief' }, el('code', {}, reason.code), ' ', reason.detail);
}

/** All of it. `policies` says what is known of a policy's id: `{version, text}`. */
export function explained(reason, policies) {
  const findings = reason.findings ?? [];
  const of = (kind) => findings.filter((finding) => finding.kind === kind);
  return section(
    reason.attester_type ? `Why its ${reason.attester_type} is not accepted` : 'Why it is not accepted',
    el('p', { class: 'reason' }, el('code', {}, reason.code), ' ', reason.detail),
    registers(of('pcr')),
    events(of('boot_event')),
    files(of('file')),
    of('policy').map((finding) => stopped(finding, reason.attester_type, policies)),
  );
}

function registers(found) {
  const rows = found.map((pcr) => [`PCR ${pcr.index}`, digest(pcr.found), pcr.expected ? digest(pcr.expected) : 'another value']);
  return found.length > 0 && table('Registers', ['Register', 'Quoted', 'The log leads to'], rows);
}

function events(found) {
  const rows = found.map((event) => [String(event.event), event.found]);
  return found.length > 0 && table('Events of the boot', ['Event', 'What was found'], rows);
}

function files(found) {
  const rows = found.map((file) => [el('span', { class: 'path' }, file.path), digest(file.digest), String(file.entry)]);
  return found.length > 0 && table('Files', ['File', 'Digest that was measured', 'Entry of the log'], rows);
}

function digest(text) {
  return el('code', { class: 'digest' }, text);
}

function stopped(finding, type, policies) {
  const { version, text } = policies(finding.id, type) ?? {};
  const name = finding.id === 'default' ? `built in for ${type}` : finding.name;
  const address = link(['policy', finding.id], { type: finding.id === 'default' ? type : '', lines: finding.lines.join(','), version: finding.version });
  const lines = text?.split('\n') ?? [];
  const same = version === finding.version;
  return el(
    'div',
    { class: 'stopped' },
    el(
      'p',
      {},
      'Policy ',
      el('a', { href: address }, name),
      finding.lines.length === 0 && ' did not accept it.',
      finding.lines.length > 0 && ` stopped at line ${finding.lines.join(', ')}`,
      text !== undefined && !same && ` of its version ${finding.version}; now it has version ${version}.`,
    ),
    same && finding.lines.length > 0 && el(
      'ul',
      { class: 'lines' },
      finding.lines.map((line) => el('li', {}, el('span', { class: 'number' }, String(line)), el('code', {}, (lines[line - 1] ?? '').trim()))),
    ),
  );
}
