<?php
/**
 * Stand-ins for what the plugin uses of WordPress and WooCommerce, and a shop as `Shop` says.
 *
 * @package PocketsflowGateway
 */

// phpcs:disable

const ABSPATH = '/';

set_error_handler( // A notice on somebody's page is a failure here.
	function ( $level, $message, $file, $line ) {
		throw new ErrorException( $message, 0, $level, $file, $line );
	}
);

final class Shop {
	public static $settings, $answer, $requests, $notices, $logged, $hooks = array(), $is_manager, $cart, $environment, $decimals, $deleted, $paying;

	public static function begins( array $settings = array() ) {
		self::$settings    = $settings + array( 'enabled' => 'yes', 'title' => 'Pay', 'description' => 'Soon', 'api' => 'https://api.example/', 'key' => 'pfs_test_key', 'sells' => 'cart', 'mode' => 'live' );
		self::$answer      = self::answers( 201, array( 'orderId' => 'ord_test_1', 'sessionId' => 'cs_1', 'url' => 'https://pay.example/cs_1', 'statusUrl' => 'https://api.example/orders/ord_test_1' ) );
		self::$requests    = self::$notices = self::$logged = self::$deleted = array();
		self::$is_manager  = false;
		self::$cart        = null;
		self::$environment = 'production';
		self::$decimals    = 2;
		self::$paying      = null;
	}

	public static function answers( $status, $body ) {
		return array( 'response' => array( 'code' => $status ), 'body' => is_string( $body ) ? $body : json_encode( $body ) );
	}
}

class WP_Error {
	private $code, $message;
	public function __construct( $code, $message ) { $this->code = $code; $this->message = $message; }
	public function get_error_code() { return $this->code; }
	public function get_error_message() { return $this->message; }
}

class WC_Payment_Gateway {
	public $id, $has_fields, $supports, $method_title, $method_description, $title, $description, $form_fields = array(), $enabled, $settings;
	public function init_settings() {
		$this->settings = Shop::$settings;
		$this->enabled  = Shop::$settings['enabled'];
	}
	public function get_option( $name ) {
		return array_key_exists( $name, Shop::$settings ) ? Shop::$settings[ $name ] : ( $this->form_fields[ $name ]['default'] ?? '' );
	}
	public function is_available() { return 'yes' === $this->enabled; }
	public function get_title() { return $this->title; }
	public function get_description() { return $this->description; }
	public function get_return_url( $order ) { return 'https://shop.example/checkout/order-received/' . $order->get_id() . '?key=' . $order->key; }
}

final class Product {
	private $sku, $price;
	public function __construct( $sku, $price ) { $this->sku = $sku; $this->price = $price; }
	public function get_sku() { return $this->sku; }
	public function get_price() { return $this->price; }
}

final class Item {
	private $product, $quantity;
	public function __construct( $product, $quantity ) { $this->product = $product; $this->quantity = $quantity; }
	public function get_product() { return $this->product; }
	public function get_quantity() { return $this->quantity; }
}

class WC_Order {
	public $id = 101, $number = '101', $total = '53.90', $currency = 'USD', $email = 'buyer@example.com', $key = 'wc_order_k', $items = array(), $meta = array(), $method = 'pocketsflow', $status = 'pending', $saved = 0;
	public function get_id() { return $this->id; }
	public function get_order_number() { return $this->number; }
	public function get_total() { return $this->total; }
	public function get_currency() { return $this->currency; }
	public function get_billing_email() { return $this->email; }
	public function get_items() { return $this->items; }
	public function get_payment_method() { return $this->method; }
	public function needs_payment() { return in_array( $this->status, array( 'pending', 'failed' ), true ); }
	public function get_checkout_payment_url() { return 'https://shop.example/checkout/order-pay/' . $this->id . '?key=' . $this->key; }
	public function update_meta_data( $key, $value ) { $this->meta[ $key ] = $value; }
	public function save() { ++$this->saved; }
}

final class Cart {
	private $lines, $total;
	public function __construct( array $lines, $total ) { $this->lines = $lines; $this->total = $total; }
	public function get_cart() { return $this->lines; }
	public function get_total( $context ) { return $this->total; }
}

final class Logger {
	public function error( $line, $context ) { Shop::$logged[] = $line; }
}

$orders = array();

function add_action( $hook, $callback ) { Shop::$hooks[ $hook ] = $callback; }
function add_filter( $hook, $callback ) { Shop::$hooks[ $hook ] = $callback; }
function __( $text ) { return $text; }
function esc_html__( $text ) { return htmlspecialchars( $text ); }
function wc_get_order( $id ) { global $orders; return $orders[ $id ] ?? false; }
function wc_add_notice( $text, $kind ) { Shop::$notices[] = $text; }
function wc_get_logger() { return new Logger(); }
function wc_get_price_decimals() { return Shop::$decimals; }
function wc_format_decimal( $number, $decimals ) { return number_format( (float) $number, $decimals, '.', '' ); }
function get_woocommerce_currency() { return 'USD'; }
function get_bloginfo() { return 'Sandbox'; }
function wp_specialchars_decode( $text ) { return htmlspecialchars_decode( $text, ENT_QUOTES ); }
function is_email( $text ) { return filter_var( $text, FILTER_VALIDATE_EMAIL ); }
function sanitize_text_field( $text ) { return strip_tags( $text ); }
function untrailingslashit( $text ) { return rtrim( $text, '/\\' ); }
function wp_json_encode( $value ) { return json_encode( $value ); }
function current_user_can( $what ) { return 'manage_woocommerce' === $what && Shop::$is_manager; }
function wp_get_environment_type() { return Shop::$environment; }
function is_wc_endpoint_url( $endpoint ) { return 'order-pay' === $endpoint && null !== Shop::$paying; }
function get_query_var() { return Shop::$paying; }
function absint( $value ) { return abs( (int) $value ); }
function is_wp_error( $value ) { return $value instanceof WP_Error; }
function wp_remote_post( $url, $options ) { Shop::$requests[] = array( $url, $options ); return Shop::$answer; }
function wp_remote_retrieve_response_code( $answer ) { return $answer['response']['code']; }
function wp_remote_retrieve_body( $answer ) { return $answer['body']; }
function delete_option( $name ) { Shop::$deleted[] = $name; }
function wp_register_script( $handle, $url, $needs ) { Shop::$requests[] = array( $handle, $url, $needs ); }
function plugins_url( $path ) { return 'https://shop.example/wp-content/plugins/pocketsflow-gateway/' . $path; }
function WC() {
	return new class() {
		public $cart;
		public function __construct() { $this->cart = Shop::$cart; }
		public function payment_gateways() {
			return new class() {
				public function payment_gateways() { return array( 'pocketsflow' => new Pocketsflow_Gateway() ); }
			};
		}
	};
}

abstract class PaymentMethodType {
	protected $name;
}
class_alias( 'PaymentMethodType', 'Automattic\\WooCommerce\\Blocks\\Payments\\Integrations\\AbstractPaymentMethodType' );
if ( ! function_exists( 'mb_substr' ) ) { // WordPress has it where PHP has not.
	function mb_substr( $text, $from, $length ) { return implode( '', array_slice( preg_split( '//u', $text, -1, PREG_SPLIT_NO_EMPTY ), $from, $length ) ); }
}
