// What has happened, for those who do not see it happen.

import { put } from './dom.js';

const live = document.getElementById('live');
// So often that it can be heard to its end.
const PAUSE = 5000;
let heard = 0;
let waiting = null;

/** Says a sentence now. */
export function announce(sentence) {
  // A text that stays the same is not read again.
  put(live, live.textContent === sentence ? `${sentence}\u00a0` : sentence);
}

/** Says the last of many sentences now and then. */
export function announceLast(sentence) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    heard = Date.now();
    announce(sentence);
  }, Math.max(0, heard + PAUSE - Date.now()));
}
