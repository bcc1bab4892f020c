<?php
/**
 * `php run.php` runs every test; `php run.php request` prints what is sent for an order. PHP alone, no packages.
 *
 * @package PocketsflowGateway
 */

// phpcs:disable

require __DIR__ . '/wordpress.php';
require __DIR__ . '/../pocketsflow-gateway/pocketsflow-gateway.php';
( Shop::$hooks['plugins_loaded'] )();

function must( $holds, $what ) {
	if ( ! $holds ) {
		throw new Exception( "must hold: $what" );
	}
}

function order( array $fields = array() ) {
	global $orders;
	$order = new WC_Order();
	foreach ( $fields as $name => $value ) {
		$order->$name = $value;
	}
	$orders = array( $order->id => $order );
	return $order;
}

function pay( WC_Order $order ) {
	return ( new Pocketsflow_Gateway() )->process_payment( $order->id );
}

function sent() {
	return json_decode( Shop::$requests[ count( Shop::$requests ) - 1 ][1]['body'], true );
}

function fails( $answer, $logged ) {
	Shop::begins();
	Shop::$answer = $answer;
	$order        = order();
	must( pay( $order ) === array( 'result' => 'failure' ), 'no redirect' );
	must( 1 === count( Shop::$notices ) && false === strpos( Shop::$notices[0], 'secret' ), 'the buyer is told, and no more' );
	must( Shop::$logged === array( $logged ), 'the log says why: ' . implode( ' ', Shop::$logged ) );
	must( 0 === $order->saved && 'pending' === $order->status, 'the order is as it was' );
}

function offered( array $settings = array() ) {
	Shop::begins( $settings );
	return ( new Pocketsflow_Gateway() )->is_available();
}

function offered_for( array $lines, $total ) {
	Shop::begins( array( 'sells' => 'sku' ) );
	Shop::$cart = new Cart( $lines, $total );
	return ( new Pocketsflow_Gateway() )->is_available();
}

function line( $sku, $price, $quantity = 1 ) {
	return array( 'data' => new Product( $sku, $price ), 'quantity' => $quantity );
}

$tests = array(
	'a cart is asked for by the key, and the buyer sent on' => function () {
		$order = order();
		must( pay( $order ) === array( 'result' => 'success', 'redirect' => 'https://pay.example/cs_1' ), 'the address' );
		list( $url, $options ) = Shop::$requests[0];
		must( 'https://api.example/server/checkout' === $url, 'the route' );
		must( 'Bearer pfs_test_key' === $options['headers']['Authorization'], 'the key' );
		must( 20 === $options['timeout'] && 0 === $options['redirection'], 'it ends, and leads nowhere else' );
		$body = sent();
		must( 'Sandbox: order 101' === $body['name'] && ! isset( $body['sku'] ), 'the name' );
		must( array( 'amount' => '53.90', 'currency' => 'usd' ) === $body['total'], 'the total' );
		must( array( 'woocommerce_order' => '101', 'woocommerce_total' => '53.90 usd' ) === $body['metadata'], 'the order' );
		must( 1 === preg_match( '/\Awc-101-[0-9a-f]{12}\z/', $body['reference'] ), 'the reference' );
		must( 'pending' === $order->status && array( '_pocketsflow_order' => 'ord_test_1' ) === $order->meta, 'the order is pending' );
	},
	'the same order is the same reference, another total another' => function () {
		pay( order() );
		$first = sent();
		pay( order() );
		must( sent() === $first, 'the same body' );
		pay( order( array( 'total' => '54.90' ) ) );
		must( sent()['reference'] !== $first['reference'], 'an edited order' );
		pay( order( array( 'email' => 'other@example.com' ) ) );
		must( sent()['reference'] !== $first['reference'], 'another address' );
	},
	'a total is exact in a currency without decimals, too' => function () {
		Shop::$decimals = 0;
		pay( order( array( 'total' => '6000', 'currency' => 'JPY' ) ) );
		must( array( 'amount' => '6000', 'currency' => 'jpy' ) === sent()['total'], 'yen' );
		must( '6000 jpy' === sent()['metadata']['woocommerce_total'], 'yen' );
	},
	'an address that is none is left out' => function () {
		pay( order( array( 'email' => '' ) ) );
		must( ! array_key_exists( 'customerEmail', sent() ), 'no address' );
	},
	'what the other side fails at is a notice and a line without words of its own' => function () {
		fails( new WP_Error( 'http_request_failed', 'cURL error 28: secret' ), 'No checkout: http_request_failed (0)' );
		fails( Shop::answers( 401, array( 'code' => 'unauthorized', 'detail' => 'secret' ) ), 'No checkout: unauthorized (401)' );
		fails( Shop::answers( 503, array( 'code' => 'pocketsflow_busy' ) ), 'No checkout: pocketsflow_busy (503)' );
		fails( Shop::answers( 429, '<html>secret</html>' ), 'No checkout: no_checkout (429)' );
		fails( Shop::answers( 400, array( 'code' => "secret\nline" ) ), 'No checkout: unknown (400)' );
		fails( Shop::answers( 301, '' ), 'No checkout: no_checkout (301)' );
		fails( Shop::answers( 201, array( 'orderId' => 'ord_1' ) ), 'No checkout: no_checkout (201)' );
	},
	'attack: an address that is not encrypted, or a script, is sent to nobody' => function () {
		foreach ( array( 'http://pay.example/', 'javascript:alert(1)', '//pay.example', array( 'https://pay.example' ) ) as $url ) {
			fails( Shop::answers( 201, array( 'orderId' => 'ord_1', 'url' => $url ) ), 'No checkout: no_checkout (201)' );
		}
	},
	'an order that is not there is a notice' => function () {
		must( array( 'result' => 'failure' ) === ( new Pocketsflow_Gateway() )->process_payment( 999 ), 'failure' );
		must( array() === Shop::$requests, 'nobody was asked' );
	},
	'one unit of one product is asked for by its SKU, held to the total' => function () {
		Shop::begins( array( 'sells' => 'sku' ) );
		pay( order( array( 'total' => '49.00', 'items' => array( new Item( new Product( 'course', '49' ), 1 ) ) ) ) );
		must( 'course' === sent()['sku'] && ! isset( sent()['name'] ) && '49.00' === sent()['total']['amount'], 'the SKU' );
		$order = order( array( 'total' => '98.00', 'items' => array( new Item( new Product( 'course', '49' ), 2 ) ) ) );
		must( array( 'result' => 'failure' ) === pay( $order ), 'two units are refused' );
		$order = order( array( 'total' => '49.00', 'items' => array( new Item( false, 1 ) ) ) );
		must( array( 'result' => 'failure' ) === pay( $order ), 'a deleted product is refused' );
	},
	'it is offered for one unit of one mapped product alone' => function () {
		must( offered_for( array( line( 'course', '49' ) ), '49.00' ), 'one unit' );
		must( ! offered_for( array( line( 'course', '49', 2 ) ), '98.00' ), 'two units' );
		must( ! offered_for( array( line( 'course', '49' ), line( 'print', '5' ) ), '54.00' ), 'two products' );
		must( ! offered_for( array( line( 'course', '49' ) ), '53.90' ), 'shipping' );
		must( ! offered_for( array( line( 'course', '49' ) ), '44.10' ), 'a coupon' );
		must( ! offered_for( array( line( '', '49' ) ), '49.00' ), 'no SKU' );
		must( ! offered_for( array( line( 'Course 1', '49' ) ), '49.00' ), 'a SKU that no catalogue can have' );
		must( ! offered_for( array(), '0' ), 'an empty cart' );
	},
	'an order that is paid later is offered what it can be sold by' => function () {
		Shop::begins( array( 'sells' => 'sku' ) );
		Shop::$paying = '101';
		$gateway      = new Pocketsflow_Gateway();
		order( array( 'total' => '49.00', 'items' => array( new Item( new Product( 'course', '49' ), 1 ) ) ) );
		must( $gateway->is_available(), 'one unit' );
		order( array( 'total' => '98.00', 'items' => array( new Item( new Product( 'course', '49' ), 2 ) ) ) );
		must( ! $gateway->is_available(), 'two units' );
		Shop::$paying = '102';
		must( ! $gateway->is_available(), 'no order' );
	},
	'it is offered when it is set up' => function () {
		must( offered(), 'as it is' );
		must( ! offered( array( 'enabled' => 'no' ) ), 'off' );
		must( ! offered( array( 'key' => ' ' ) ), 'without a key' );
		must( ! offered( array( 'api' => '' ) ), 'without an address' );
		must( ! offered( array( 'api' => 'http://api.example' ) ), 'attack: the key goes over no open line' );
		must( ! offered( array( 'api' => 'http://127.0.0.1:8001' ) ), 'this machine is for developers' );
	},
	'a test stack is for managers of the shop' => function () {
		must( ! offered( array( 'mode' => 'test' ) ), 'a buyer' );
		Shop::$is_manager = true;
		must( ( new Pocketsflow_Gateway() )->is_available(), 'a manager' );
	},
	'a developer s machine may be asked without encryption' => function () {
		Shop::begins( array( 'api' => 'http://127.0.0.1:8001' ) );
		Shop::$environment = 'local';
		must( ( new Pocketsflow_Gateway() )->is_available(), 'local' );
		Shop::begins( array( 'api' => 'http://127.0.0.1.evil.example' ) );
		Shop::$environment = 'local';
		must( ! ( new Pocketsflow_Gateway() )->is_available(), 'a name that begins so' );
	},
	'more decimals than the stack takes are not offered' => function () {
		Shop::$decimals = 4;
		must( ! ( new Pocketsflow_Gateway() )->is_available(), 'four' );
	},
	'coming back proves nothing' => function () {
		$said = Shop::$hooks['woocommerce_thankyou_order_received_text'];
		must( false !== strpos( $said( 'Thanks', order() ), 'being confirmed' ), 'a pending order' );
		must( 'Thanks' === $said( 'Thanks', order( array( 'status' => 'processing' ) ) ), 'a paid one' );
		must( 'Thanks' === $said( 'Thanks', order( array( 'method' => 'bacs' ) ) ), 'one of another gateway' );
		must( 'Thanks' === $said( 'Thanks', null ), 'none' );
	},
	'the checkout block hears a title, and no key' => function () {
		$registry = new class() {
			public $method;
			public function register( $method ) { $this->method = $method; }
		};
		Shop::$hooks['woocommerce_blocks_payment_method_type_registration']( $registry );
		$registry->method->initialize();
		must( $registry->method->is_active(), 'it is offered' );
		must( array( 'title' => 'Pay', 'description' => 'Soon', 'supports' => array( 'products' ) ) === $registry->method->get_payment_method_data(), 'title and description' );
		must( array( 'pocketsflow-blocks' ) === $registry->method->get_payment_method_script_handles(), 'its script' );
		must( in_array( 'wc-blocks-registry', Shop::$requests[0][2], true ), 'after what it uses' );
	},
	'the plugin gone, its key is gone' => function () {
		define( 'WP_UNINSTALL_PLUGIN', true );
		require __DIR__ . '/../pocketsflow-gateway/uninstall.php';
		must( array( 'woocommerce_pocketsflow_settings' ) === Shop::$deleted, 'the settings' );
	},
	'a key in wp-config.php is used, and shown in no field' => function () { // The last: a constant stays.
		must( isset( ( new Pocketsflow_Gateway() )->form_fields['key'] ), 'a field' );
		define( 'POCKETSFLOW_KEY', 'pfs_test_constant' );
		must( ! isset( ( new Pocketsflow_Gateway() )->form_fields['key'] ), 'no field' );
		pay( order() );
		must( 'Bearer pfs_test_constant' === Shop::$requests[0][1]['headers']['Authorization'], 'the constant' );
	},
);

if ( array( 'request' ) === array_slice( $argv, 1 ) ) {
	Shop::begins();
	pay( order() );
	echo Shop::$requests[0][1]['body'];
	exit( 0 );
}
$failed = 0;
foreach ( $tests as $name => $test ) {
	Shop::begins();
	try {
		$test();
		echo "ok $name\n";
	} catch ( Throwable $error ) {
		++$failed;
		echo "not ok $name: {$error->getMessage()} ({$error->getLine()})\n";
	}
}
exit( $failed ? 1 : 0 );
