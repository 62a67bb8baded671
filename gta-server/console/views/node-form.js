// Pins a node's key: an administrator says that it is in the TPM of this machine.

import { send } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { go, link } from '../lib/router.js';
import { field, fileInBase64, form } from '../parts/form.js';

export const nodeForm = {
  title: () => 'Pin a node',
  load: async ({ say }) => {
    const file = el('input', { type: 'file', id: 'ak-file' });
    return form(
      'Pin this key',
      [
        el('p', {}, 'You say that this attestation key is in the TPM of this machine, because you have looked. Machines enrol themselves otherwise.'),
        field('Name of the node', { id: 'node', required: true, maxlength: 255, autocomplete: 'off', spellcheck: 'false' }),
        el(
          'div',
          { class: 'field' },
          el('label', { for: 'ak-file' }, 'Attestation key, from a file'),
          file,
          el('p', { class: 'hint' }, 'As tpm2_readpublic -f tss writes it.'),
        ),
        field('Or in base64', { id: 'ak', tag: 'textarea', rows: 4, spellcheck: 'false', autocomplete: 'off', hint: 'TPMT_PUBLIC or TPM2B_PUBLIC.' }),
      ],
      async (sent) => {
        const name = sent.node.value;
        const key = await fileInBase64(file) || sent.ak.value.replace(/\s/gu, '');
        await send('POST', '/node', { node_id: name, ak_public: bare(key) });
        say(`${name} was pinned.`);
        go(['node', name]);
      },
      { cancel: link(['nodes']) },
    );
  },
};

/** A TPM2B_PUBLIC begins with its length; the server takes what follows. */
function bare(base64) {
  let bytes;
  try {
    bytes = atob(base64);
  } catch {
    return base64;
  }
  const length = bytes.charCodeAt(0) * 256 + bytes.charCodeAt(1);
  return length === bytes.length - 2 ? btoa(bytes.slice(2)) : base64;
}
