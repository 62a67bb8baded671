// Who are you?

import { identify } from '../lib/api.js';
import { el } from '../lib/dom.js';
import { begin } from '../lib/session.js';
import { field, form } from '../parts/form.js';

export const signIn = {
  title: () => 'Sign in',
  load: async ({ entered }) => form(
    'Sign in',
    [
      el('p', {}, 'Sign in with a tenant and one of its API keys. The key stays in this page: it is gone when you leave it, or load it again.'),
      field('Tenant', { id: 'tenant', required: true, maxlength: 36, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', 'data-first': true }),
      field('API key', { id: 'key', type: 'password', required: true, maxlength: 32, autocomplete: 'current-password' }),
    ],
    async (sent) => {
      const tenant = sent.tenant.value.trim();
      const key = sent.key.value.trim();
      begin(tenant, key, await identify(tenant, key));
      sent.reset();
      entered();
    },
    { class: 'narrow' },
  ),
};
