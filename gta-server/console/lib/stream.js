// Server-sent events over fetch: EventSource cannot send the headers that say who asks.

import { open } from './api.js';

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
// Without it a server could fill the memory with a line that does not end.
const LONGEST_LINE = 1 << 20;

/**
 * Hands on each event after the number `after` until `signal` is aborted. `told` hears 'live', or 'waiting' after a break,
 * or 'over' with the problem for which it is not tried again.
 */
export async function follow(path, query, after, signal, event, told) {
  let last = after;
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      const response = await open(path, query, last === undefined ? {} : { 'Last-Event-ID': String(last) }, signal);
      told('live');
      pause = FIRST_PAUSE;
      for await (const message of messages(response.body)) {
        last = message.id ?? last;
        event(JSON.parse(message.data));
      }
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      if (error.status === 401 || error.status === 403) {
        told('over', error);
        return;
      }
    }
    told('waiting');
    await sleep(pause, signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

async function* messages(body) {
  let message = { data: '' };
  for await (const line of lines(body)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/su.exec(line);
    if (line === '') {
      if (message.data !== '') {
        yield message;
      }
      message = { data: '' };
    } else if (field === 'data') {
      message.data += message.data === '' ? value : `\n${value}`;
    } else if (field === 'id') {
      message.id = value;
    }
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const parts = (rest + value).split('\n');
      rest = parts.pop();
      if (rest.length > LONGEST_LINE) {
        throw new RangeError('a line of the stream does not end');
      }
      yield* parts.map((part) => part.replace(/\r$/u, ''));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function sleep(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
