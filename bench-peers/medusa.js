// Medusa's promotion module as a peer: its own `computeActions`, over a database that answers at
// once. A real one (PostgreSQL) answers two queries for each cart; here the promotions that they
// would find stand in memory, found by an index, so that only the module's own code is timed.
//
// In: a task as JSON on standard input (`sconto.bench.peers` says what). Out: one JSON object a line.
'use strict';
const PromotionModuleService = require(
  '@medusajs/promotion/dist/services/promotion-module.js',
).default;

async function main() {
  const task = JSON.parse(await text(process.stdin));
  for (const size of task.sizes) {
    const products = task.products.slice(0, size);
    const byProduct = new Map(products.map((product) => [product, promotion(product)]));
    let asked = [];
    // What the rules' prefilter leaves: a promotion whose product is in the cart, in a line or
    // lines of which some has two units or more.
    const promotionService = {
      list: async () => asked,
    };
    const manager = { getKnex: () => ({ raw: async () => ({ rows: [
      { attribute: 'items.product.id' }, { attribute: 'items.quantity' },
    ] }) }) };
    const baseRepository = { getFreshManager: () => manager, serialize: async (x) => x };
    const service = new PromotionModuleService(
      { baseRepository, promotionService, campaignBudgetUsageService: {} }, {},
    );
    const carts = task.carts.map(context);
    const find = (cart) => (cart.items.some((item) => item.quantity >= 2)
      ? [...new Set(cart.items.map((item) => item.product.id))]
        .map((id) => byProduct.get(id)).filter(Boolean)
      : []);
    const run = async (cart) => {
      asked = find(cart);
      return service.computeActions([], cart, {}, { __type: 'MedusaContext', manager });
    };
    await run(carts[0]);
    const times = [];
    const discounts = [];
    const end = performance.now() + task.seconds * 1000;
    while (!times.length || performance.now() < end) {
      const cart = carts[times.length % carts.length];
      const started = process.hrtime.bigint();
      const actions = await run(cart);
      times.push(Number(process.hrtime.bigint() - started) / 1000);
      discounts.push(Math.round(actions.reduce((sum, one) => sum + Number(one.amount), 0)));
    }
    await say(JSON.stringify({ size, times_us: times, discounts }));
  }
}

function promotion(product) {
  return {
    id: `two-of-${product}`, code: `two-of-${product}`, is_automatic: true, type: 'standard',
    status: 'active', is_tax_inclusive: false, rules: [], campaign: null, limit: null, used: 0,
    application_method: {
      type: 'percentage', target_type: 'items', allocation: 'across', value: 10,
      currency_code: null, max_quantity: null,
      target_rules: [
        { attribute: 'items.product.id', operator: 'in', values: [{ value: product }] },
        { attribute: 'items.quantity', operator: 'gte', values: [{ value: '2' }] },
      ],
      buy_rules: [],
    },
  };
}

function context(cart, number) {
  return {
    currency_code: 'usd',
    items: cart.map((line, i) => ({
      id: `${number}-${i}`, quantity: line.quantity, product: { id: line.sku },
      subtotal: line.unit_minor * line.quantity, original_total: line.unit_minor * line.quantity,
      is_discountable: true, adjustments: [],
    })),
  };
}

// What was not written yet when the process exits would be lost.
function say(line) {
  return new Promise((done) => process.stdout.write(`${line}\n`, done));
}

async function text(stream) {
  let all = '';
  for await (const part of stream) all += part;
  return all;
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
