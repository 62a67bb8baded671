// Adds reference values, or changes a set of them.

import { send } from '../lib/api.js';
import { go, link } from '../lib/router.js';
import { field, form, select, textOrFile } from '../parts/form.js';
import { refValueOf } from './ref-value.js';

const TYPES = [['tpm_ima', 'tpm_ima: files'], ['tpm_boot', 'tpm_boot: measured boot'], ['virt_cca', 'virt_cca: confidential VMs']];
const HINT = 'A compact JWT by one of the tenant’s signers of reference values.';

export const newRefValue = {
  title: () => 'Add reference values',
  load: async ({ say }) => form(
    'Add these reference values',
    [
      ...described({}),
      select('Evidence', 'type', TYPES),
      textOrFile('Signed content', { id: 'content', required: true, rows: 8, accept: '.jwt,.txt', hint: HINT }),
    ],
    async (sent) => {
      const { ref_value: added } = await send('POST', '/ref_value', {
        name: sent.name.value,
        description: sent.description.value,
        attester_type: sent.type.value,
        content: sent.content.value.trim(),
      });
      say(`${added.name} was added.`);
      go(['ref-value', added.id]);
    },
    { cancel: link(['ref-values']) },
  ),
};

export const changedRefValue = {
  title: () => 'Change reference values',
  load: async (context) => {
    const found = await refValueOf(context);
    return form(
      'Change this set',
      [
        ...described(found),
        textOrFile('Signed content', { id: 'content', required: true, rows: 8, value: found.content, accept: '.jwt,.txt', hint: HINT }),
      ],
      async (sent) => {
        const { ref_value: changed } = await send('PUT', '/ref_value', {
          id: found.id,
          name: sent.name.value,
          description: sent.description.value,
          content: sent.content.value.trim(),
        });
        context.say(`${changed.name} was changed: it has version ${changed.version}.`);
        go(['ref-value', changed.id]);
      },
      { cancel: link(['ref-value', found.id]) },
    );
  },
};

function described({ name = '', description = '' }) {
  return [
    field('Name', { id: 'name', required: true, maxlength: 255, value: name, autocomplete: 'off' }),
    field('Description', { id: 'description', maxlength: 512, value: description, autocomplete: 'off' }),
  ];
}
