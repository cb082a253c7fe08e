// Starts npm's telegram-test-api on a free loopback port and prints its address as one line of JSON.
//
//     node telegram_server.mjs FOLDER     (FOLDER has the package in its node_modules)
//
// Ends when its standard input does, so that it never outlives the test that started it.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'node_modules', 'noop.js'));
const TelegramServer = require('telegram-test-api');

const server = new TelegramServer({ host: '127.0.0.1', storage: 'RAM', storeTimeout: 3600 });
// The constructor takes 0 for "not given".
server.config.port = 0;
await server.start();
console.log(JSON.stringify({ url: `http://127.0.0.1:${server.server.address().port}` }));
process.stdin.resume().on('end', () => process.exit(0));
