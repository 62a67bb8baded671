// Questions before something is gone.

import { el } from './dom.js';

/** Asks; true if `action` was chosen. The focus begins on the way out, and goes back to where it was. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    let chosen = false;
    const close = (choice) => () => {
      chosen = choice;
      dialog.close();
    };
    const dialog = el(
      'dialog',
      { 'aria-labelledby': 'dialog-title', on: { close: () => { dialog.remove(); resolve(chosen); } } },
      el('h2', { id: 'dialog-title' }, title),
      el('p', {}, text),
      el(
        'div',
        { class: 'actions' },
        el('button', { type: 'button', class: 'danger', on: { click: close(true) } }, action),
        el('button', { type: 'button', autofocus: true, on: { click: close(false) } }, 'Cancel'),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
