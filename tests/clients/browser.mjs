// Headless Chromium: node browser.mjs CHROMIUM GATE FOREIGN SPKI
//
// GATE is the gate's https address, FOREIGN a page of another origin, SPKI the base64 SHA-256 of
// the served key: Chromium then takes the certificate as it would a publicly trusted one.

import { chromium } from 'playwright-core';
import { browserArguments } from './browser_arguments.mjs';
import { scenario } from './scenario.mjs';

const [executablePath, gate, foreign, spki] = process.argv.slice(2);

/** Runs in the page: opens a WebSocket, echoes text and bytes, closes with a code. */
async function talk(url) {
  const socket = new WebSocket(url, ['chat.v1']);
  socket.binaryType = 'arraybuffer';
  const next = (name) => new Promise((resolve) => socket.addEventListener(name, resolve, { once: true }));
  const opened = await Promise.race([next('open'), next('error')]);
  if (opened.type !== 'open') {
    const { code } = await next('close');
    return { opened: false, code };
  }
  const echo = async (data) => {
    socket.send(data);
    return (await next('message')).data;
  };
  const text = await echo('grüße');
  const bytes = new Uint8Array(1024 * 1024).map((_, index) => index % 251);
  const back = new Uint8Array(await echo(bytes));
  const same = back.length === bytes.length && back.every((byte, index) => byte === bytes[index]);
  const { protocol, extensions } = socket;
  socket.close(4001, 'page done');
  const { code, wasClean } = await next('close');
  return { opened: true, text, same, protocol, extensions, code, wasClean };
}

/** Loads a page and tells what the browser's network stack negotiated for it. */
async function load(page, url) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Network.enable');
  const received = new Promise((resolve) => {
    cdp.on('Network.responseReceived', (event) => {
      if (event.type === 'Document') resolve(event.response);
    });
  });
  await page.goto(url);
  const { status, protocol, headers, securityDetails: tls } = await received;
  return {
    status,
    title: await page.title(),
    http: protocol,
    headers,
    tls: tls && { protocol: tls.protocol, group: tls.keyExchangeGroup, cipher: tls.cipher },
  };
}

scenario(async (step) => {
  step('launch');
  const browser = await chromium.launch({ executablePath, args: browserArguments(spki) });
  const socketUrl = `${gate.replace('https:', 'wss:')}/from-page`;
  step('own page');
  const own = await browser.newPage();
  const page = await load(own, `${gate}/`);
  const secure = await own.evaluate(() => window.isSecureContext);
  step('own socket');
  const socket = await own.evaluate(talk, socketUrl);
  step('foreign page');
  const other = await browser.newPage();
  await load(other, foreign);
  step('foreign socket');
  const refused = await other.evaluate(talk, socketUrl.replace('from-page', 'from-foreign'));
  step('close');
  await browser.close();
  return { page: { ...page, secure }, socket, refused };
});
