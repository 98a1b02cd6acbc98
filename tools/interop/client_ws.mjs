// The checks of suite.mjs through the package `ws`: MODE http://HOST:PORT [USER]. NODE_MODULES names the directory
// that holds the package.

import { createRequire } from 'node:module';
import { postKick } from './kick.mjs';
import { Suite } from './suite.mjs';

const { WebSocket } = createRequire(`${process.env.NODE_MODULES}/`)('ws');
const [mode, url, user] = process.argv.slice(2);
const suite = new Suite({
  WebSocket,
  url,
  kick: (target) => postKick(url, target),
  listening: async () => console.log('listening'),
  report: async (line) => console.log(line),
});
process.exit((await suite.run(mode, user)) ? 0 : 1);
