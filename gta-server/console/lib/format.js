// Times and numbers in words.

import { el } from './dom.js';

const two = (number) => String(number).padStart(2, '0');

/** Seconds since the Unix epoch as date and time where the browser is. */
export function time(seconds) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) {
    return '—';
  }
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const text = `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return el('time', { datetime: date.toISOString() }, text);
}

/** The same, with how long ago that was or how long it will take. */
export function timeAndAge(seconds) {
  return [time(seconds), ` (${age(seconds)})`];
}

/** How long ago a moment was, or when it will be. */
export function age(seconds, now = Date.now() / 1000) {
  const passed = Math.round(now - seconds);
  return passed < 0 ? `in ${duration(-passed)}` : `${duration(passed)} ago`;
}

/** Seconds in words. */
export function duration(seconds) {
  for (const [unit, name] of [[86400, 'day'], [3600, 'hour'], [60, 'minute']]) {
    if (seconds >= 2 * unit) {
      return `${Math.floor(seconds / unit)} ${name}s`;
    }
  }
  return seconds === 1 ? '1 second' : `${seconds} seconds`;
}

/** A count with its noun. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

/** The time zone of the browser. */
export function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}
