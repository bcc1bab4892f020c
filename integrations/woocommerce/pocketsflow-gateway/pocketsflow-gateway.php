<?php
/**
 * Plugin Name: Pocketsflow gateway for WooCommerce
 * Description: Buyers pay at Pocketsflow. The checkout is asked of your own stack on AWS, which marks the order paid.
 * Version: 1.0.0
 * Requires at least: 6.0
 * Requires PHP: 7.4
 * Requires Plugins: woocommerce
 * WC requires at least: 7.1
 * Text Domain: pocketsflow-gateway
 *
 * @package PocketsflowGateway
 */

defined( 'ABSPATH' ) || exit;

add_action(
	'before_woocommerce_init',
	function () {
		if ( class_exists( '\Automattic\WooCommerce\Utilities\FeaturesUtil' ) ) {
			foreach ( array( 'custom_order_tables', 'cart_checkout_blocks' ) as $feature ) {
				\Automattic\WooCommerce\Utilities\FeaturesUtil::declare_compatibility( $feature, __FILE__, true );
			}
		}
	}
);

// Its parent is there once WooCommerce is, which may be never.
add_action(
	'plugins_loaded',
	function () {
		if ( class_exists( 'WC_Payment_Gateway' ) ) {
			require_once __DIR__ . '/class-pocketsflow-gateway.php';
		}
	}
);

add_filter(
	'woocommerce_payment_gateways',
	function ( $gateways ) {
		$gateways[] = 'Pocketsflow_Gateway';
		return $gateways;
	}
);

add_action(
	'woocommerce_blocks_payment_method_type_registration',
	function ( $registry ) {
		require_once __DIR__ . '/class-pocketsflow-blocks.php';
		$registry->register( new Pocketsflow_Blocks() );
	}
);

add_filter(
	'woocommerce_thankyou_order_received_text',
	function ( $text, $order = null ) {
		// To come back proves nothing: the order is paid when the stack says so, a moment later.
		if ( $order instanceof WC_Order && 'pocketsflow' === $order->get_payment_method() && $order->needs_payment() ) {
			return esc_html__( 'Thank you. Your payment is being confirmed; you will hear of it by e-mail.', 'pocketsflow-gateway' );
		}
		return $text;
	},
	10,
	2
);
