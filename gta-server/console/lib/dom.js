// Builds pages from text. Whatever a server says is text: nothing here reads markup, and what is not to be seen in it is shown.

const SVG = 'http://www.w3.org/2000/svg';

// Control characters but tab and newline, marks of direction and invisible joiners: they make a name look like another.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** The text, with what nobody would see in it written as its number. */
export function visible(text) {
  return String(text).toWellFormed().replace(UNSEEN, (unseen) => `\\u{${unseen.codePointAt(0).toString(16)}}`);
}

/** An element with attributes and children; members of `on` are listeners. What is null, undefined or false is left out. */
export function el(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** An element of an SVG drawing. */
export function svg(name, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, name), attributes, children);
}

function furnish(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on') || name === 'style' || name === 'srcdoc') {
      throw new TypeError(`attribute ${name}`);
    }
    // Links lead to other pages of the console and nowhere else.
    if ((name === 'href' || name === 'src') && !String(value).startsWith('#')) {
      throw new TypeError(`${name} ${value}`);
    }
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  for (const [event, listener] of Object.entries(on)) {
    element.addEventListener(event, listener);
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(visible(child))));
}

/** Puts other children in the place of those that are there. */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
}
