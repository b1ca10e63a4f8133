// A certified OpenID provider with two clients, for test_identity_provider.py.
//
//   node provider.mjs PORT < settings.json
//
// settings: {"jwks": {"keys": [private keys, the first one signs]}, "redirect_uri": "…", "secret": "…"}
// PORT 0 takes a free one. Prints {"issuer": "…"} when it listens; ends when its standard input ends.

import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const AUDIENCE = 'ollama';
const line = await new Promise((resolve) => {
  let buffer = '';
  process.stdin.on('data', (part) => {
    buffer += part;
    const end = buffer.indexOf('\n');
    if (end >= 0) resolve(buffer.slice(0, end));
  });
});
process.stdin.on('end', () => process.exit(0));
const settings = JSON.parse(line);

const server = createServer();
await new Promise((resolve) => server.listen(Number(process.argv[2]), '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: settings.jwks,
  clients: [
    {
      client_id: 'chat',
      token_endpoint_auth_method: 'none',
      redirect_uris: [settings.redirect_uri],
      grant_types: ['authorization_code', 'refresh_token'],
    },
    {
      client_id: 'proxy',
      client_secret: settings.secret,
      redirect_uris: [],
      response_types: [],
      grant_types: [],
    },
  ],
  scopes: ['openid', 'offline_access', 'chat'],
  cookies: { keys: [settings.secret] },
  features: {
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      // urn:ollama:jwt → a JWT of RFC 9068; urn:ollama:opaque → a token that only introspection can read
      getResourceServerInfo: (context, indicator) => ({
        scope: 'chat',
        audience: AUDIENCE,
        accessTokenTTL: 600,
        accessTokenFormat: indicator.endsWith(':jwt') ? 'jwt' : 'opaque',
        jwt: { sign: { alg: settings.jwks.keys[0].alg } },
      }),
    },
  },
  findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: () => ({ org: 'physics', realm_access: { roles: ['offline_access', 'research'] } }),
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, Interaction: 600, RefreshToken: 600, Session: 600 },
});

provider.on('server_error', (context, error) => console.error(error));
server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
