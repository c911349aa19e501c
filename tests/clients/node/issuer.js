// An OpenID provider with clients of its own, for the harness: it says its address on standard output, and ends with its
// input. Whoever has a client's secret gets a token for any scopes, and under any client's name.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const RESOURCE = "urn:roadstead";
const CLIENTS = { alice: { alg: "RS256" }, bob: { alg: "ES256" }, carol: { alg: "PS256" } };

function key(kid, alg, type, options) {
  const jwk = generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
  return { ...jwk, kid, alg, use: "sig" };
}

const keys = [
  key("rs", "RS256", "rsa", { modulusLength: 2048 }),
  key("ps", "PS256", "rsa", { modulusLength: 2048 }),
  key("es", "ES256", "ec", { namedCurve: "P-256" }),
];

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(CLIENTS).map((client_id) => ({
      client_id,
      client_secret: `${client_id}'s secret`,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: "client_secret_post",
    })),
    // Seconds that a token lives are asked for by the resource.
    ttl: { ClientCredentials: (ctx) => Number(ctx.oidc.body.seconds ?? 3600) },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo: (ctx, resource, client) => ({
          scope: ctx.oidc.body.scope ?? "",
          audience: ctx.oidc.body.audience ?? "rabbitmq",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: CLIENTS[client.clientId].alg } },
        }),
      },
    },
    extraParams: [],
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
process.stdin.resume().on("end", () => process.exit(0));
