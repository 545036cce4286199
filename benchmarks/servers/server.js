// The lesson's handshake with Node's net module: server.js PORT TIMEOUT.
const net = require('node:net')

const [port, timeout] = process.argv.slice(2).map(Number)

const server = net.createServer((peer) => {
  peer.setTimeout(timeout * 1000, () => peer.destroy())
  peer.on('error', () => {})
  peer.once('data', (token) => {
    const welcome = token.length === 1 && token[0] === 0x31
    peer.end(welcome ? 'welcome to server!' : 'please go out!')
  })
})
server.listen({ host: '127.0.0.1', port, backlog: 4096 })
