// What ours is measured beside: the proxy of @anthropic-ai/sandbox-runtime, ending TLS and putting a value in the
// place of a placeholder. Argument: the folder of the package. Everything is dialled on this machine.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

const load = file => import(pathToFileURL(join(process.argv[2], 'dist/sandbox', file)))
const { createHttpProxyServer } = await load('http-proxy.js')
const { createMitmCA } = await load('mitm-ca.js')
const { BENCH_PLACEHOLDER: placeholder, BENCH_VALUE: value, BENCH_CA: upstreamCA } = process.env

const lookup = (_host, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)
const mitmCA = createMitmCA({})
const server = createHttpProxyServer({
  filter: () => true,
  mitmCA,
  mutateHeaders: headers => {
    for (const [name, text] of Object.entries(headers))
      if (typeof text === 'string' && text.includes(placeholder)) headers[name] = text.replaceAll(placeholder, value)
  },
  tlsTerminateUpstreamCA: readFileSync(upstreamCA),
  lookupFor: () => lookup,
})
server.listen(0, '127.0.0.1', () =>
  console.log(JSON.stringify({ proxy: `127.0.0.1:${server.address().port}`, ca: mitmCA.certPem })))
