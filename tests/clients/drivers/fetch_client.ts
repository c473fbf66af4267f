// Drives the TypeScript client of openapi-generator: `node fetch_client.js URL`.
import {
  AccountsApi, Configuration, OrderBody, OrdersApi, ProblemBodyFromJSON, ProductsApi, ResponseError, SessionsApi,
} from './client'

declare const process: { argv: string[] }
const basePath = process.argv[2]
const person = { email: 'fetch@example.com', password: 'a long enough password' }

async function problemOf(call: Promise<unknown>) {
  try {
    await call
  } catch (error) {
    if (error instanceof ResponseError) return ProblemBodyFromJSON(await error.response.json())
    throw error
  }
  throw new Error('no problem')
}

async function main() {
  const visitor = new Configuration({ basePath })
  const account = await new AccountsApi(visitor).register({ registerBody: { ...person, name: 'Ada' } })
  const tokens = await new SessionsApi(visitor).logIn({ loginBody: person })
  const { products } = await new ProductsApi(visitor).listProducts({ limit: 1 })
  const orders = new OrdersApi(new Configuration({ basePath, accessToken: tokens.accessToken }))

  const orderBody: OrderBody = { items: [{ productId: products[0].id, quantity: 2 }] }
  const first = await orders.placeOrderRaw({ orderBody, idempotencyKey: 'key-1' })
  const again = await orders.placeOrderRaw({ orderBody, idempotencyKey: 'key-1' })
  const order = await first.value()
  const problem = await problemOf(
    orders.placeOrder({ orderBody: { items: [{ productId: 999_999_999, quantity: 1 }] } }),
  )
  console.log(JSON.stringify({
    registered: account.email,
    total: order.totalAmount,
    replayed: again.raw.headers.get('Idempotent-Replayed'),
    same_order: (await again.value()).id === order.id,
    problem: {
      status: problem.status,
      type: problem.type,
      pointers: problem.errors?.map((fault) => fault.pointer),
    },
  }))
}

main()
