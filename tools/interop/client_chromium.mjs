// The checks of suite.mjs in a page of headless Chromium: MODE http://HOST:PORT [USER]. NODE_MODULES names the
// directory that holds playwright-core, CHROMIUM the browser. The page comes from the node, so that it has its origin.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { postKick } from './kick.mjs';

const { chromium } = createRequire(`${process.env.NODE_MODULES}/`)('playwright-core');
const [mode, url, user] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'throng-chromium-'));
const source = readFileSync(new URL('./suite.mjs', import.meta.url), 'utf8');
let good = false;
try {
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    // Chromium trusts whom the machine trusts: that a page in TLS reaches a node is what is tried here.
    ignoreHTTPSErrors: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
  const page = await browser.newPage();
  await page.goto(`${url}/health`);
  await page.exposeFunction('throngKick', (target) => postKick(url, target));
  await page.exposeFunction('throngListening', () => console.log('listening'));
  await page.exposeFunction('throngReport', (line) => console.log(line));
  good = await page.evaluate(async ([text, ...rest]) => {
    const [mode, url, user] = rest;
    const { Suite } = await import(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));
    const { WebSocket, throngKick: kick, throngListening: listening, throngReport: report } = window;
    return new Suite({ WebSocket, url, kick, listening, report }).run(mode, user);
  }, [source, mode, url, user]);
  await browser.close();
} catch (error) {
  console.log(`not ok chromium runs: ${String(error.message ?? error).split('\n')[0]}`);
}
rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
process.exit(good ? 0 : 1);
