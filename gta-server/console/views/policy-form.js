// Adds a policy, or changes one.

import { Problem, send } from '../lib/api.js';
import { decodeText, encodeText } from '../lib/base64.js';
import { go, link } from '../lib/router.js';
import { boxes, field, form, textOrFile, ticked } from '../parts/form.js';
import { policyOf } from './policy.js';

const TYPES = [['tpm_boot', 'tpm_boot: measured boot'], ['tpm_ima', 'tpm_ima: files'], ['virt_cca', 'virt_cca: confidential VMs']];

const START = `package verification

default result := {"policy_matched": false}

log := input.evidence.logs[0]

result := {"policy_matched": true} if {
\tlog.log_status == "replay_success"
}
`;

export const newPolicy = {
  title: () => 'Add a policy',
  load: async ({ say }) => policyForm({
    policy: { name: '', description: '', attester_type: ['tpm_boot'], is_default: false },
    text: START,
    button: 'Add this policy',
    cancel: link(['policies']),
    submit: async (content) => {
      const { policy } = await send('POST', '/policy', content);
      say(`${policy.name} was added.`);
      go(['policy', policy.id]);
    },
  }),
};

export const changedPolicy = {
  title: () => 'Change a policy',
  load: async (context) => {
    const found = await policyOf(context);
    return policyForm({
      policy: found,
      text: decodeText(found.content),
      button: 'Change this policy',
      cancel: link(['policy', found.id]),
      submit: async (content) => {
        const { policy } = await send('PUT', '/policy', { id: found.id, ...content });
        context.say(`${policy.name} was changed: it has version ${policy.version}.`);
        go(['policy', policy.id]);
      },
    });
  },
};

function policyForm({ policy, text, button, cancel, submit }) {
  const rules = policy.rules ? JSON.stringify(policy.rules, null, 2) : '';
  return form(
    button,
    [
      field('Name', { id: 'name', required: true, maxlength: 255, value: policy.name, autocomplete: 'off' }),
      field('Description', { id: 'description', maxlength: 512, value: policy.description, autocomplete: 'off' }),
      boxes('Evidence', 'types', TYPES, policy.attester_type),
      boxes('Applies to', 'is_default', [['yes', 'All evidence of these types, and not only where a client names it']], policy.is_default ? ['yes'] : []),
      boxes('The text is', 'content_type', [['text', 'Rego'], ['jwt', 'A JWT of one of the tenant’s policy signers, whose payload has the Rego']], ['text'], 'radio'),
      textOrFile('Text', { id: 'rego', required: true, rows: 18, value: text, accept: '.rego,.jwt,.txt', hint: 'Package verification, rule result with policy_matched.' }),
      field('Rules for platforms and logs', { id: 'rules', tag: 'textarea', rows: 3, spellcheck: 'false', value: rules, hint: 'JSON with virtcca and logs; may be empty.' }),
    ],
    (sent) => submit(content(sent)),
    { cancel },
  );
}

function content(sent) {
  const [kind] = ticked(sent, 'content_type');
  const text = sent.rego.value;
  const document = {
    name: sent.name.value,
    description: sent.description.value,
    attester_type: ticked(sent, 'types'),
    is_default: ticked(sent, 'is_default').length > 0,
    content_type: kind,
    content: kind === 'jwt' ? text.trim() : encodeText(text),
  };
  const rules = sent.rules.value.trim();
  if (rules === '') {
    return document;
  }
  try {
    return { ...document, rules: JSON.parse(rules) };
  } catch (error) {
    throw new Problem(0, 'rules_malformed', `The rules are not JSON: ${error.message}`);
  }
}
