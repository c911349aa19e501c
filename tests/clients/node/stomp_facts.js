// Where the broker is that the checks of stompjs are for, and who they are there.

const { STOMP_URI: tcp, STOMP_WS_URI: ws } = process.env;
if (!tcp || !ws) {
  console.error('set STOMP_URI and STOMP_WS_URI, e.g. stomp://guest:guest@127.0.0.1:61613 and ws://127.0.0.1:15674/ws');
  process.exit(2);
}
const { username: login, password: passcode } = new URL(tcp.replace('stomp:', 'http:'));

export const facts = { ws, login, passcode };
