// Prints, as one JSON array, requests that ccxt signs with its own code: each once as a bot sends it that was given
// dummy credentials ("app", an hour early), and once with the real (made up) ones at the fixed time ("signed").
import ccxt from 'ccxt';
import { generateKeyPairSync, webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto; // Node 18 has it under this name only

const TIME = 1700000000123; // ms; also Kraken's nonce
const HMAC = 'FAKE-secret-for-tests-only-0123456789abcdef';
const B64 = Buffer.from(HMAC).toString('base64');
const pem = (type, options, format) => generateKeyPairSync(type, options).privateKey.export({ type: format, format: 'pem' });
const rsa = () => pem('rsa', { modulusLength: 2048 }, 'pkcs8');
const ed25519 = () => pem('ed25519', {}, 'pkcs8');
const p256 = () => pem('ec', { namedCurve: 'P-256' }, 'sec1');

// [ccxt's class, sealsign's venue, [[algorithm, secret, a dummy secret]], [[api, method, path, params]]]
const venues = [
  ['binance', 'binance', [['hmac-sha256', HMAC, 'dummy'], ['rsa-sha256', rsa(), rsa()], ['ed25519', ed25519(), ed25519()]], [
    ['private', 'GET', 'account', {}],
    ['private', 'GET', 'openOrders', { symbol: 'BTCUSDT' }],
    ['private', 'POST', 'order', { symbol: 'BTCUSDT', side: 'BUY', type: 'LIMIT', timeInForce: 'GTC', quantity: '0.01', price: '30000.10', newClientOrderId: 'seal-1' }],
    ['private', 'DELETE', 'order', { symbol: 'BTCUSDT', origClientOrderId: 'seal-1' }],
    ['fapiPrivate', 'POST', 'order', { symbol: 'BTCUSDT', side: 'SELL', type: 'MARKET', quantity: '1', reduceOnly: 'true', newClientOrderId: 'seal-2' }],
    ['fapiPrivate', 'GET', 'openOrders', { symbol: 'ETHUSDT' }],
  ]],
  ['kraken', 'kraken', [['hmac-sha512', B64, 'ZHVtbXk=']], [
    ['private', 'POST', 'Balance', {}],
    ['private', 'POST', 'OpenOrders', { trades: 'true' }],
    ['private', 'POST', 'AddOrder', { pair: 'XBTUSD', type: 'buy', ordertype: 'limit', price: '37500', volume: '1.25', cl_ord_id: 'seal-1' }],
    ['private', 'POST', 'CancelOrder', { txid: 'OFAKE1-AAAAA-BBBBBB' }],
    ['private', 'POST', 'CancelOrderBatch', { orders: ['OFAKE1-AAAAA-BBBBBB', 'OFAKE2-AAAAA-BBBBBB'] }],
  ]],
  ['coinbaseexchange', 'coinbase-exchange', [['hmac-sha256', B64, 'ZHVtbXk=']], [
    ['private', 'GET', 'accounts', {}],
    ['private', 'GET', 'orders', { status: 'open', product_id: 'BTC-USD' }],
    ['private', 'POST', 'orders', { product_id: 'BTC-USD', side: 'buy', type: 'limit', price: '30000.10', size: '0.01', client_oid: '00000000-0000-4000-8000-000000000001' }],
    ['private', 'DELETE', 'orders/{id}', { id: '00000000-0000-4000-8000-000000000002' }],
  ]],
  ['coinbase', 'coinbase-cdp', [['es256', p256(), p256()]], [
    [['v3', 'private'], 'GET', 'brokerage/accounts', { limit: '250' }],
    [['v3', 'private'], 'POST', 'brokerage/orders', { client_order_id: 'seal-1', product_id: 'BTC-USD', side: 'BUY', order_configuration: { limit_limit_gtc: { base_size: '0.01', limit_price: '30000.10' } } }],
    [['v3', 'private'], 'POST', 'brokerage/orders/batch_cancel', { order_ids: ['fake-1', 'fake-2'] }],
  ]],
  ['okx', 'okx', [['hmac-sha256', HMAC, 'dummy']], [
    ['private', 'GET', 'account/balance', { ccy: 'BTC,ETH' }],
    ['private', 'GET', 'trade/orders-pending', { instType: 'SPOT' }],
    ['private', 'POST', 'trade/order', { instId: 'BTC-USDT', tdMode: 'cash', side: 'buy', ordType: 'limit', px: '30000.1', sz: '0.01', clOrdId: 'seal1' }],
    ['private', 'POST', 'trade/cancel-batch-orders', [{ instId: 'BTC-USDT', ordId: '1' }, { instId: 'BTC-USDT', ordId: '2' }]],
  ]],
  ['bybit', 'bybit', [['hmac-sha256', HMAC, 'dummy'], ['rsa-sha256', rsa(), rsa()]], [
    ['private', 'GET', 'v5/order/realtime', { category: 'linear', symbol: 'BTCUSDT' }],
    ['private', 'GET', 'v5/account/wallet-balance', { accountType: 'UNIFIED' }],
    ['private', 'POST', 'v5/order/create', { category: 'spot', symbol: 'BTCUSDT', side: 'Buy', orderType: 'Limit', qty: '0.01', price: '30000.1', orderLinkId: 'seal-1' }],
    ['private', 'POST', 'v5/order/cancel', { category: 'spot', symbol: 'BTCUSDT', orderLinkId: 'seal-1' }],
  ]],
];

// at returns an exchange whose clock stands still.
function at(id, time, credentials) {
  const exchange = new ccxt[id](credentials);
  exchange.milliseconds = () => time;
  exchange.nonce = () => (id === 'coinbaseexchange' || id === 'coinbase' ? Math.floor(time / 1000) : time);
  exchange.seconds = () => Math.floor(time / 1000);
  return exchange;
}

function sign(exchange, [api, method, path, params]) {
  const { url, body, headers } = exchange.sign(path, api, method, structuredClone(params));
  return { method, url, body: body ?? '', headers: headers ?? {} };
}

const cases = [];
for (const [id, venue, accounts, requests] of venues) {
  for (const [algorithm, secret, dummy] of accounts) {
    const apiKey = `FAKE-api-key-of-${venue}`;
    const real = at(id, TIME, { apiKey, secret, password: 'FAKE-passphrase' });
    const app = at(id, TIME - 3600000, { apiKey: 'dummy-key', secret: dummy, password: 'dummy' });
    for (const request of requests) {
      cases.push({
        venue, algorithm, time_ms: TIME,
        credential: { api_key: apiKey, secret, passphrase: 'FAKE-passphrase' },
        app: sign(app, request), signed: sign(real, request),
      });
    }
  }
}
console.log(JSON.stringify(cases));
