// Headless Chromium, whose sockets are closed: node closing_browser.mjs CHROMIUM GATE SPKI
//
// One page with sockets on /idle, /busy and /deflate of closing_backend.mjs, and one that stops in
// the message of /large: its thread waits for the answer to a synchronous request, /hold. What each
// socket's close event says is the finding.

import { chromium } from 'playwright-core';
import { browserArguments } from './browser_arguments.mjs';
import { scenario } from './scenario.mjs';

const [executablePath, gate, spki] = process.argv.slice(2);

/** Runs in the page. */
async function busy(url) {
  const closed = (path) => new Promise((resolve) => {
    const socket = new WebSocket(url + path);
    const sending = setInterval(() => {
      if (path !== '/idle' && socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 65536) {
        socket.send(crypto.getRandomValues(new Uint8Array(512)));
      }
    }, 1);
    socket.onclose = ({ code, wasClean }) => {
      clearInterval(sending);
      resolve({ code, wasClean });
    };
  });
  const [idle, plain, deflate] = await Promise.all(['/idle', '/busy', '/deflate'].map(closed));
  return { idle, busy: plain, deflate };
}

/** Runs in the page. */
async function large(url) {
  const socket = new WebSocket(`${url}/large`);
  socket.binaryType = 'arraybuffer';
  let bytes = 0;
  socket.onmessage = ({ data }) => { bytes = data.byteLength; };
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  await new Promise((resolve) => { socket.onopen = resolve; });
  socket.send('now');
  const hold = new XMLHttpRequest();
  hold.open('GET', '/hold', false);
  hold.send();
  const { code, wasClean } = await closed;
  return { code, wasClean, bytes };
}

scenario(async (step) => {
  step('launch');
  const browser = await chromium.launch({ executablePath, args: browserArguments(spki) });
  const url = gate.replace('https:', 'wss:');
  step('pages');
  const pages = [await browser.newPage(), await browser.newPage()];
  for (const page of pages) await page.goto(`${gate}/`);
  step('sockets');
  const [one, two] = await Promise.all([pages[0].evaluate(busy, url), pages[1].evaluate(large, url)]);
  step('close');
  await browser.close();
  return { ...one, large: two };
});
