// What is wrong with the page for people who do not see it, do not see it well, or have no mouse: a list of sentences.

const complaints = [];
const complain = (what, element) => complaints.push(element ? `${what}: ${element.outerHTML.slice(0, 160)}` : what);
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (element) => element.checkVisibility({ visibilityProperty: true });
const named = (element) => (element.getAttribute('aria-label') ?? element.textContent).trim() !== '';

if (document.documentElement.lang === '') complain('no language');
const headings = all('h1, h2, h3').filter(shown);
if (headings.filter((heading) => heading.tagName === 'H1').length !== 1) complain('not one h1');
if (!document.title.startsWith(all('h1')[0]?.textContent)) complain(`the title is ${document.title}`);
headings.reduce((before, heading) => {
  const level = Number(heading.tagName[1]);
  if (level > before + 1) complain('a level is left out', heading);
  return level;
}, 0);
if (all('main').length !== 1) complain('not one main');
for (const nav of all('nav').filter(shown)) if (!nav.hasAttribute('aria-label')) complain('no name', nav);
for (const input of all('input, select, textarea').filter(shown)) {
  if (input.labels.length === 0 || input.labels[0].textContent.trim() === '') complain('no label', input);
}
for (const fieldset of all('fieldset')) if (!fieldset.querySelector('legend')) complain('no legend', fieldset);
for (const control of all('button, a[href], summary')) if (!named(control)) complain('no name', control);
for (const image of all('img')) if (!image.hasAttribute('alt')) complain('no alternative', image);
for (const drawing of all('svg')) if (drawing.getAttribute('aria-hidden') !== 'true') complain('a drawing is read', drawing);
for (const element of all('[tabindex]')) if (element.tabIndex > 0) complain('an order of its own', element);
for (const table of all('table')) {
  if (!table.caption || table.caption.textContent.trim() === '') complain('no caption', table);
  for (const header of table.querySelectorAll('th')) if (!header.hasAttribute('scope')) complain('no scope', header);
  for (const row of table.tBodies[0].rows) {
    if (row.cells.length > 1 && row.cells.length !== table.tHead.rows[0].cells.length) complain('cells without a column', row);
  }
}
const ids = all('[id]').map((element) => element.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) complain(`the id ${id} is there twice`);
for (const attribute of ['for', 'aria-describedby', 'aria-labelledby']) {
  for (const element of all(`[${attribute}]`)) if (!document.getElementById(element.getAttribute(attribute))) complain(`${attribute} leads nowhere`, element);
}
for (const region of all('.scroll')) if (region.tabIndex !== 0 || !region.hasAttribute('aria-label')) complain('no way to scroll with keys', region);

// Contrast (WCAG 2.2, 1.4.3): of each text to what is under it.
const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const parsed = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return { rgb: [red, green, blue], alpha: alpha / 255 };
};
const over = (top, under) => top.rgb.map((part, index) => part * top.alpha + under[index] * (1 - top.alpha));
const background = (element) => {
  const colour = parsed(getComputedStyle(element).backgroundColor);
  if (colour.alpha === 1) return colour.rgb;
  return over(colour, element.parentElement ? background(element.parentElement) : [255, 255, 255]);
};
const luminance = (rgb) => {
  const [red, green, blue] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (walker.currentNode.data.trim() === '' || !shown(element) || element.closest('.hidden')) continue;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const under = background(element);
  const text = luminance(over(parsed(style.color), under));
  const [light, dark] = [text, luminance(under)].sort((one, other) => other - one);
  const contrast = (light + 0.05) / (dark + 0.05);
  if (contrast < (large ? 3 : 4.5)) complain(`contrast ${contrast.toFixed(2)}`, element);
}

return complaints;
