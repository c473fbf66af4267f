// Drives the client of @hey-api/openapi-ts: `node openapi_ts_client.js URL`.
import { listProducts, logIn, placeOrder, register } from './client'
import { client } from './client/client.gen'

declare const process: { argv: string[] }
const person = { email: 'ts@example.com', password: 'a long enough password' }

async function main() {
  client.setConfig({ baseUrl: process.argv[2] })
  const account = await register({ body: { ...person, name: 'Ada' }, throwOnError: true })
  const tokens = await logIn({ body: person, throwOnError: true })
  const { data: page } = await listProducts({ query: { limit: 1 }, throwOnError: true })
  client.setConfig({ auth: tokens.data.access_token })

  const body = { items: [{ product_id: page.products[0].id, quantity: 2 }] }
  const headers = { 'Idempotency-Key': 'key-1' }
  const first = await placeOrder({ body, headers, throwOnError: true })
  const again = await placeOrder({ body, headers, throwOnError: true })
  const { error: problem } = await placeOrder({ body: { items: [{ product_id: 999_999_999, quantity: 1 }] } })
  console.log(JSON.stringify({
    registered: account.data.email,
    total: first.data.total_amount,
    replayed: again.response.headers.get('Idempotent-Replayed'),
    same_order: again.data.id === first.data.id,
    problem: {
      status: problem?.status,
      type: problem?.type,
      pointers: problem?.errors?.map((fault) => fault.pointer),
    },
  }))
}

main()
