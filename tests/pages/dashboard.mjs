// The node's page in a browser, against real nodes. With --redis=URL the cluster is looked at too.

import { Mock } from './mock.mjs';
import {
  Checks, assert, checkClean, checkContrast, checkPolicy, checkStructure, checkWidths, connect, equal, launchBrowser, node, openPage,
  options, tabOrder, text, until,
} from './harness.mjs';

const PAGE = '/dashboard';
const EVIL = '<img src=x onerror="window.injected=1">';

const browser = await launchBrowser();
const checks = new Checks('dashboard');
const check = (what, run) => checks.check(what, run);
const live = (page) => until('the page is live', async () => (await text(page, '#link')) === 'Live' && !(await page.locator('#lost').isVisible()));
const number = async (page, selector) => Number((await text(page, selector)).replaceAll(',', ''));
const started = [];
const start = async (...flags) => {
  const one = await node(...flags).start();
  started.push(one);
  return { one, url: `http://${one.fields.address}` };
};

try {
  let { one, url } = await start('--service-name', 'shop', '--label', 'zone=eu-1', '--label', `odd=${EVIL}`);
  const { page, response } = await openPage(browser, url + PAGE);

  await check('it is served under a strict policy and goes live', async () => {
    equal(response.status(), 200);
    checkPolicy(response);
    await live(page);
    await checkClean(page);
  });

  await check('it says who and where the node is, and labels stay text', async () => {
    await until('it does', async () => /Serviceshop/.test(await text(page, '#identity')));
    const identity = await text(page, '#identity');
    const health = await (await fetch(`${url}/health`)).json();
    for (const part of [health.node_id, health.version, health.service_identity.instance_id, 'zone=eu-1', `odd=${EVIL}`]) {
      assert(identity.includes(part), `${part} is not said`);
    }
    equal(await text(page, '#phase'), 'serving');
    assert(/\d+ s/.test(await text(page, '#uptime')), 'no uptime');
    await checkClean(page);
  });

  await check('an empty node teaches what to do', async () => {
    assert((await text(page, '#quiet')).includes(`throng client --url ws://${new URL(url).host}/ws`), 'how to connect');
    assert((await text(page, '#no-cluster')).includes('--redis-url'), 'how to make a cluster');
    assert(await page.locator('#no-closed').isVisible() || await page.locator('#closed tr').count() > 0, 'why connections ended');
  });

  const { page: helper } = await openPage(browser, `${url}/health`);
  await check('connections, users, rates and deliveries are counted', async () => {
    const base = url.replace('http', 'ws');
    for (const user of ['ann', 'bob', 'bob']) await connect(helper, `${base}/ws?user_id=${user}`);
    await until('connections', async () => await number(page, '#t-connections') === 3);
    await until('users', async () => await number(page, '#t-users') === 2);
    await helper.evaluate(() => setInterval(() => {
      for (let i = 0; i < 5; i += 1) window.sockets[0].send(JSON.stringify({ type: 'send_message', target_user: 'bob', content: 'x' }));
    }, 100));
    await until('messages in', async () => await number(page, '#t-in') > 10);
    await until('messages out', async () => await number(page, '#t-out') > 10);
    await until('bytes', async () => /[1-9].* (B|KiB)/.test(await text(page, '#t-bytes-out')));
    const delivered = page.locator('#delivery tr').filter({ hasText: 'Delivered to a user' }).locator('td');
    await until('deliveries', async () => Number((await delivered.nth(0).textContent()).replaceAll(',', '')) > 10 && Number(await delivered.nth(1).textContent()) > 10);
    const held = await page.locator('#reactors td.load > span:first-child').allTextContents();
    equal(held.length, 2, 'reactors');
    equal(held.reduce((sum, one) => sum + Number.parseInt(one, 10), 0), 3, 'connections of all reactors');
    assert(/MiB/.test(await text(page, '#t-memory')) && /ms/.test(await text(page, '#t-answer')), 'memory and answer time');
  });

  await check('why connections ended is counted', async () => {
    await helper.evaluate(() => window.sockets[2].close());
    await until('it is', async () => /peer closed/.test(await text(page, '#closed')));
    await until('one less', async () => await number(page, '#t-connections') === 2);
  });

  await check('both charts are drawn and read with the keyboard', async () => {
    for (const id of ['connections', 'messages']) {
      const chart = page.locator(`#${id}`);
      await until('it has a line', async () => (await chart.locator('path').evaluateAll((paths) => paths.map((path) => path.getAttribute('d') ?? '').join(''))).includes('L'));
      await chart.focus();
      await until('there is a point to go to', async () => {
        const before = await chart.getAttribute('aria-valuetext');
        await page.keyboard.press('ArrowLeft');
        return before !== await chart.getAttribute('aria-valuetext');
      });
      assert(await chart.locator('.tip').isVisible(), 'the figures of the moment are shown');
      await page.keyboard.press('Escape');
      await page.locator(`#${id}-table summary`).click();
      await until('its table has rows from the first', async () => await page.locator(`#${id}-table tbody tr`).count() > 0);
      await page.locator(`#${id}-table summary`).click();
    }
  });

  await check('nothing moves while figures come in', async () => {
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 900 });
      const first = await text(page, '#uptime');
      await until('it is laid out', async () => await text(page, '#uptime') !== first);
      await page.evaluate(() => { window.shifts.length = 0; });
      const seen = new Set();
      await until('four more came', async () => seen.add(await text(page, '#uptime')).size > 4);
      equal(await page.evaluate(() => window.shifts), [], `layout shifts at ${width} px`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  await check('it is built for assistive technology and the keyboard', async () => {
    await checkStructure(page);
    const order = await tabOrder(page, 5);
    equal(order.slice(0, 3), ['Skip to the figures', 'theme', 'connections'], 'tab order');
    assert(!order.some((name) => name.startsWith('UNSEEN')), order.join());
  });

  await check('it fits a phone, and its texts stand out in both themes', async () => {
    await checkWidths(page);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await checkContrast(page);
    }
  });

  await check('it asks for nothing while nobody looks', async () => {
    const hide = (hidden) => page.evaluate((is) => {
      Object.defineProperty(document, 'hidden', { value: is, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await hide(true);
    await until('it pauses', async () => (await text(page, '#link')) === 'Paused');
    let asked = 0;
    page.on('request', () => { asked += 1; });
    const { page: other, context } = await openPage(browser, url + PAGE);
    const seen = new Set();
    await until('another page went on', async () => seen.add(await text(other, '#uptime')).size > 4);
    await context.close();
    equal(asked, 0, 'requests while hidden');
    await hide(false);
    await live(page);
  });

  await check('it says since when the figures are old, and finds the node again', async () => {
    await one.kill();
    await until('it says that it is lost', () => page.locator('#lost').isVisible());
    await until('it says since when, and what next', async () => /as of \d\d:\d\d:\d\d, \d+ s ago.*Trying again/.test(await text(page, '#lost p')));
    assert(await page.evaluate(() => document.body.classList.contains('stale')), 'the figures look as if they were of now');
    ({ one, url } = await start('--port', new URL(url).port));
    await live(page);
    await until('it says that this is another', async () => /another instance answers/.test(await text(page, '#several')));
    await until('the figures are new', async () => await number(page, '#t-connections') === 0);
    await checkClean(page);
  });

  await check('a drain is shown while it lasts', async () => {
    const draining = await start('--lame-duck', '4s');
    const { page: other, context } = await openPage(browser, draining.url + PAGE);
    await live(other);
    draining.one.signal('SIGTERM');
    await until('the phase is said', async () => (await text(other, '#phase')) === 'lame duck');
    await until('so is what it means', async () => /about to leave/.test(await text(other, '#drain')));
    await until('then it is gone', () => other.locator('#lost').isVisible());
    await context.close();
  });

  if (options.redis) {
    await check('the nodes of a cluster are shown', async () => {
      const nodes = [await start('--redis-url', options.redis, '--node-id', 'east'), await start('--redis-url', options.redis, '--node-id', 'west')];
      const { page: other, context } = await openPage(browser, nodes[0].url + PAGE);
      await until('it is ready', async () => (await text(other, '#cluster-state')) === 'ready');
      await until('both are listed', async () => /east \(this one\)/.test(await text(other, '#nodes')) && /west/.test(await text(other, '#nodes')));
      await context.close();
    });
  }

  await check('several nodes behind one address are noticed', async () => {
    const nodes = [await start(), await start()];
    const mock = new Mock();
    const answers = await Promise.all(nodes.map(async (each) => (await fetch(`${each.url}/api/overview`)).json()));
    let turn = 0;
    mock.overview = () => ({ ...answers[(turn += 1) % 2], timestamp: new Date().toISOString() });
    await mock.start();
    const { page: other, context } = await openPage(browser, `http://127.0.0.1:${mock.port}${PAGE}`);
    await until('it says so', async () => /Several nodes answer/.test(await text(other, '#several')));
    await checkClean(other);
    await context.close();
    await mock.stop();
  });
} catch (error) {
  await check('the tests can run', () => { throw error; });
}

await browser.close();
for (const one of started) await one.kill();
console.log(`dashboard: passed=${checks.passed} failed=${checks.failed}`);
process.exit(checks.failed ? 1 : 0);
