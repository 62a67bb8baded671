// Forms.

import { encode } from '../lib/base64.js';
import { el, put } from '../lib/dom.js';
import { problemBox } from './problem.js';

/** A field with its label, and a hint under it. The attributes are those of its input. */
export function field(label, { id, hint, tag = 'input', value = '', ...attributes }) {
  const input = el(tag, { id, name: id, 'aria-describedby': hint ? `${id}-hint` : null, ...attributes });
  input.value = value;
  return el('div', { class: 'field' }, el('label', { for: id }, label), input, hint && el('p', { id: `${id}-hint`, class: 'hint' }, hint));
}

/** A field of which one of `[value, label]` is chosen. */
export function select(label, id, options, value = '') {
  const choices = options.map(([choice, text]) => el('option', { value: choice, selected: choice === value }, text));
  return el('div', { class: 'field' }, el('label', { for: id }, label), el('select', { id, name: id }, choices));
}

/** Boxes of which any number is ticked. */
export function boxes(legend, name, options, ticked = [], type = 'checkbox') {
  const each = options.map(([value, label]) => el(
    'label',
    { class: 'box' },
    el('input', { type, name, value, checked: ticked.includes(value) }),
    label,
  ));
  return el('fieldset', { class: 'field' }, el('legend', {}, legend), el('div', { class: 'boxes' }, each));
}

/** A text that is typed, or read from a file. */
export function textOrFile(label, { id, accept, ...attributes }) {
  const area = field(label, { id, tag: 'textarea', spellcheck: 'false', autocomplete: 'off', ...attributes });
  const read = async (event) => {
    const [file] = event.target.files;
    if (file) {
      area.querySelector('textarea').value = await file.text();
    }
  };
  return el('div', {}, area, el(
    'div',
    { class: 'field' },
    el('label', { for: `${id}-file` }, 'Or from a file'),
    el('input', { type: 'file', id: `${id}-file`, accept, on: { change: read } }),
  ));
}

/** The bytes of a chosen file in base64. */
export async function fileInBase64(input) {
  const [file] = input.files;
  return file ? encode(new Uint8Array(await file.arrayBuffer())) : '';
}

/** What is ticked or chosen under a name. */
export function ticked(form, name) {
  return new FormData(form).getAll(name);
}

/** A form whose `submit` is called with it; what the server refuses is shown above the button, and nothing is lost. */
export function form(button, fields, submit, { cancel, ...attributes } = {}) {
  const trouble = el('div', { class: 'trouble' });
  const press = el('button', { type: 'submit', class: 'main' }, button);
  const sent = async (event) => {
    event.preventDefault();
    // Pressed twice, a form is sent once.
    if (press.hasAttribute('aria-disabled')) {
      return;
    }
    put(trouble);
    press.setAttribute('aria-disabled', 'true');
    try {
      await submit(event.target);
    } catch (error) {
      put(trouble, problemBox(error));
    } finally {
      press.removeAttribute('aria-disabled');
    }
  };
  return el(
    'form',
    { ...attributes, on: { submit: sent } },
    fields,
    trouble,
    el('div', { class: 'actions' }, press, cancel && el('a', { href: cancel, class: 'button' }, 'Cancel')),
  );
}
