// Adds a certificate, a bundle of them, or a revocation list.

import { send } from '../lib/api.js';
import { go, link } from '../lib/router.js';
import { boxes, field, form, textOrFile, ticked } from '../parts/form.js';

const TYPES = [
  ['tpm_ek', 'tpm_ek: authorities that certify endorsement keys of TPMs'],
  ['tpm_iak', 'tpm_iak: authorities that certify initial attestation keys of machines'],
  ['tpm_boot', 'tpm_boot: authorities that certify attestation keys, for measured boot'],
  ['tpm_ima', 'tpm_ima: the same, for files'],
  ['virt_cca', 'virt_cca: authorities that certify virtCCA devices'],
  ['refvalue', 'refvalue: a signer of reference values'],
  ['policy', 'policy: a signer of policies'],
  ['crl', 'crl: a revocation list of one of the authorities'],
];

export const certificateForm = {
  title: () => 'Add a certificate',
  load: async ({ say }) => form(
    'Add this certificate',
    [
      field('Name', { id: 'name', required: true, maxlength: 255, autocomplete: 'off' }),
      field('Description', { id: 'description', maxlength: 512, autocomplete: 'off' }),
      boxes('Good for', 'types', TYPES),
      textOrFile('PEM', { id: 'pem', required: true, rows: 10, accept: '.pem,.crt,.cer,.crl', hint: 'Authorities may be several in one text.' }),
    ],
    async (sent) => {
      const types = ticked(sent, 'types');
      const content = types.includes('crl') ? { crl_content: sent.pem.value } : { content: sent.pem.value };
      const name = sent.name.value;
      await send('POST', '/cert', { name, description: sent.description.value, type: types, ...content });
      say(`${name} was added.`);
      go(['certificates']);
    },
    { cancel: link(['certificates']) },
  ),
};
