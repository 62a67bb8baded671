// Takes something away, if that is really wanted.

import { send } from '../lib/api.js';
import { confirm } from '../lib/dialog.js';
import { el, put } from '../lib/dom.js';
import { problemBox } from './problem.js';
import { section } from './facts.js';

/** A button that asks `title` and `text`, and sends `DELETE path` with `body`; what the server refuses is shown in `trouble`. */
export function removal(label, { title, text, action = 'Delete it', path, body, after, trouble, danger = true }) {
  const press = async () => {
    put(trouble);
    if (!await confirm(title, text, action)) {
      return;
    }
    try {
      await send('DELETE', path, body);
      after();
    } catch (error) {
      put(trouble, problemBox(error));
    }
  };
  return el('button', { type: 'button', class: danger ? 'danger' : null, on: { click: press } }, label);
}

/** The part of a page from which something is changed; `buttons` is given where troubles are shown. */
export function changes(buttons) {
  const trouble = el('div');
  return section('Changes', trouble, el('div', { class: 'actions' }, buttons(trouble)));
}
